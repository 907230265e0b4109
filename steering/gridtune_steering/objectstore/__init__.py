"""Where checkpoints and logs are kept: a port and its adapters, a folder and S3."""
