"""Solvers: how candidate futures are searched. One protocol; `planner_node.assembly` is the one place to add another."""
