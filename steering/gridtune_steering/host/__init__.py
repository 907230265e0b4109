"""The optimizer host: a process of its own, so that thinking about points never keeps a request waiting."""
