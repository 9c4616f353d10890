"""Where MindSpore finds the source of generated gradient functions; see ``maam_ops._native.bprop_of``.

The graph compiler wants a file that exists behind every function it reads. The functions' lines are registered with
``linecache`` under this file's name, past its end.
"""
