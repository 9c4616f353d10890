"""Operators in Huawei's kernel languages: AKG's hybrid DSL, TBE's DSL, and bindings of the Ascend C operators.

See ``docs/ascend.md`` for what was checked how, and what was not.
"""
