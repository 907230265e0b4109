"""The evaluation agent: asks for points, runs the payload on them, and brings the results home.

Outermost first: `command` (flags) → `agent` (an agent and its slots) → `slot` (ask, evaluate, deliver,
again) → `evaluation` (one attempt at one point) → `contract`, `reports`, `results`, `conclusion` (what the
payload is given, what it leaves, what that means), with `runtimes` to start it, `pulse` to keep its lease
and `spool` to lose nothing.
"""
