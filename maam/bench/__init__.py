"""What the operators and the model reach, measured against the machine's limits and against plain MindSpore.

A *case* is a piece of work with inputs and an oracle, a *side* is one way to do it, a *benchmark* lets several sides
do one case and judges the figures:

    cases/         the work: shapes, inputs, results in float64, tolerances, bytes and FLOPs
    sides/         the ways: name -> environment -> callable; each runs in a process of its own
    suite.py       the benchmarks and their targets
    race.py        the paired measurement; worker.py is the process of one side
    report.py      results -> table, Markdown and plots

`maam bench` and ``pytest benchmarks --benchmark-only`` are two doors to the same measurement and write the same JSON.
"""
