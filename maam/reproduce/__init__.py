"""The paper's tables, figure and claims, trained and measured again: `maam reproduce`.

settings.py  the runs, read from runs/*.yaml
runner.py    trains what is missing, one process a run (worker.py), and tells how long it will take
results.py   the small files a finished run leaves under results/
claims/      short measurements of the paper's other claims
report.py    one report from all of it, without training
"""
