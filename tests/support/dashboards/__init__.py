"""The source of the Grafana dashboards: `python -m tests.support.dashboards grafana/dashboards` writes them.

Panels are rows of a table (`overview`, `internals`); `panel` and `board` make Grafana's documents of them. Every
metric in a query gets the matchers of the variables here, so that a panel cannot forget them.
"""
