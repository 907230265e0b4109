"""How good the points are that optimizers propose: on made-up problems and on real trainings, by ours and by others.

Every optimizer of the table is driven as a host drives it, and the libraries behind them are driven alone, as their
documentation says. Regret is compared at the same number of evaluations, sequentially and with many workers at a time.

    python -m benchmarks.quality --algorithms random sobol optuna/tpe --seeds 3
"""
