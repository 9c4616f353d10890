"""The benchmarks: which sides do which case, and what the project promises of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import cases
from .cases import Case
from .figures import NEVER_SLOWER, AmdahlBound, CeilingShare, Figure, Overhead, Saved, SpeedUp


@dataclass(frozen=True)
class Profile:
    """How long to measure.

    Attributes:
        rounds: blocks of each side.
        block_seconds: length of a block.
    """

    name: str
    rounds: int
    block_seconds: float


PROFILES = {"quick": Profile("quick", 5, 0.15), "full": Profile("full", 15, 0.5)}


@dataclass(frozen=True)
class Benchmark:
    """One case, done by several sides in turn.

    Attributes:
        name: unique; what `--only` matches.
        group: heading in the report.
        case: the work.
        figures: what is judged; they decide which sides take part.
        subject: the side whose time stands for the benchmark.
        truth: side whose results the others must give, where the case has no oracle.
        timed: False where only facts are wanted.
        fresh: in new processes, for facts about a process's life.
        quick: part of the quick profile.
        optional: sides whose failure leaves the others' figures standing.
        facts: (side, fact) pairs to report besides those of the figures.
    """

    name: str
    group: str
    case: Case
    figures: tuple[Figure, ...]
    subject: str
    truth: str | None = None
    timed: bool = True
    fresh: bool = False
    quick: bool = True
    optional: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def sides(self) -> list[str]:
        """Sides that take part, in order of their first mention, after the subject."""
        return list(dict.fromkeys([self.subject, *(side for figure in self.figures for side in figure.sides)]))


def never_slower(name: str, slow: str = "unfused", fast: str = "fused") -> SpeedUp:
    return SpeedUp(name, at_least=NEVER_SLOWER, slow=slow, fast=fast)


def _aggregate() -> list[Benchmark]:
    # batch -> times faster than the unfused graph, and than graph kernel fusion
    goals = {16: (NEVER_SLOWER, NEVER_SLOWER), 64: (4.0, 1.3), 512: (1.5, 1.1)}
    benchmarks = []
    for direction, kind in (("forward", cases.AggregateForward), ("backward", cases.AggregateBackward)):
        for batch, (unfused, graph_kernel) in goals.items():
            figures = (
                CeilingShare("kernel alone, share of the bandwidth ceiling", at_least=0.85),
                Overhead("through MindSpore, above the kernel alone", at_most=0.15),
                SpeedUp("faster than the unfused graph", at_least=unfused, slow="unfused", fast="fused"),
                SpeedUp("faster than graph kernel fusion", at_least=graph_kernel, slow="graph kernel", fast="fused"),
            )
            if batch == 64:
                figures += (SpeedUp("faster than the AKG variant", at_least=None, slow="akg", fast="fused"),)
            benchmarks.append(
                Benchmark(f"aggregate {direction} {batch}", f"aggregate, {direction}", kind(batch), figures, "fused")
            )
        for batch, channels in ((1, 128), (1, 8)):
            benchmarks.append(
                Benchmark(
                    f"aggregate {direction} {batch}x{channels}",
                    f"aggregate, {direction}",
                    kind(batch, channels),
                    (never_slower("faster than the unfused graph"),),
                    "fused",
                )
            )
        slow, fast = "unfused, PYNATIVE", "fused, PYNATIVE"
        benchmarks.append(
            Benchmark(
                f"aggregate {direction} PYNATIVE",
                f"aggregate, {direction}",
                kind(64),
                (never_slower("PYNATIVE, faster than unfused", slow, fast),),
                fast,
                quick=direction == "forward",
            )
        )
    return benchmarks


def _reduce() -> list[Benchmark]:
    figures = (
        CeilingShare("kernel alone, share of min(FMA, bandwidth)", at_least=0.70, limits=("bandwidth", "fma")),
        never_slower("faster than the tuned unfused graph"),
    )
    benchmarks = [
        Benchmark(
            f"reduce inference {channels}-128 {batch}",
            "reduce, inference",
            cases.ReduceInference(batch, channels),
            figures,
            "fused",
            quick=channels == 64 or batch == 64,
        )
        for channels in (64, 128)
        for batch in (1, 64, 512)
    ]
    return benchmarks + [
        Benchmark(
            f"reduce training {batch}",
            "reduce, forward and backward",
            cases.ReduceTraining(batch),
            (never_slower("faster than the unfused graph"),),
            "fused",
            quick=batch == 64,
        )
        for batch in (64, 256)
    ]


def _aggregate_reduce() -> list[Benchmark]:
    benchmarks = [
        Benchmark(
            f"aggregate_reduce inference {batch}",
            "aggregate_reduce, inference",
            cases.AggregateReduceInference(batch),
            (
                SpeedUp(
                    "kernel alone, faster than aggregate then reduce",
                    at_least=1.2 if batch == 512 else NEVER_SLOWER,
                    slow="two kernels",
                    fast="kernel",
                ),
                CeilingShare("kernel alone, share of min(FMA, bandwidth)", limits=("bandwidth", "fma")),
                never_slower("faster than the tuned unfused graph"),
            ),
            "fused",
            quick=batch in (1, 64, 512),
        )
        for batch in (1, 16, 64, 256, 512)
    ]
    return benchmarks + [
        Benchmark(
            f"aggregate_reduce training {batch}",
            "aggregate_reduce, forward and backward",
            cases.AggregateReduceTraining(batch),
            (never_slower("faster than the unfused graph"),),
            "fused",
            quick=batch == 64,
        )
        for batch in (64, 256)
    ]


def _dense() -> list[Benchmark]:
    benchmarks = []
    for direction, kind, kernel in (
        ("forward", cases.DenseForward, "kernel"),
        ("backward", cases.DenseBackward, "gradient kernels"),
    ):
        for batch in (1, 64, 512):
            figures = (
                never_slower("faster than the tuned unfused graph"),
                SpeedUp("faster than the untuned unfused graph", slow="unfused, untuned", fast="fused"),
            )
            if batch > 1:
                share = "kernel alone, share of the FMA ceiling"
                figures = (CeilingShare(share, at_least=0.85, of=kernel, limits=("fma",)), *figures)
            benchmarks.append(
                Benchmark(
                    f"dense {direction} {batch}",
                    f"dense, {direction}",
                    kind(batch),
                    figures,
                    "fused",
                    quick=batch == 64,
                )
            )
    return benchmarks


def _optimizer() -> list[Benchmark]:
    return [
        Benchmark(
            f"optimizer {decay}",
            "optimizer",
            cases.OptimizerStep(decay),
            (
                SpeedUp(
                    f"{decay} decay, faster than MindSpore's", goal, slow="reference operator", fast="native operator"
                ),
            ),
            "native operator",
        )
        for decay, goal in (("l2", 1.5), ("decoupled", 3.0))
    ]


def _branch() -> list[Benchmark]:
    return [
        Benchmark(
            f"branch training {kernel}",
            "single branches",
            cases.BranchTraining(kernel),
            (
                never_slower(
                    f"gradients of a branch of {kernel}x{kernel} and its images, faster than MindSpore's",
                    slow="reference operator",
                    fast="native operator",
                ),
            ),
            "native operator",
            truth="reference operator",
            quick=kernel == 7,
        )
        for kernel in (3, 5, 7)
    ]


def _model() -> list[Benchmark]:
    fused, unfused = "fused model", "unfused model"
    benchmarks = []
    for suffix, label in (("", ""), (", graph kernel", ", graph kernel on both sides")):
        pair = {"slow": unfused + suffix, "fast": fused + suffix}
        for batch in (1, 64):
            benchmarks.append(
                Benchmark(
                    f"model inference {batch}{suffix}",
                    "authors model",
                    cases.ModelInference(batch),
                    (never_slower(f"inference, faster than unfused{label}", **pair),),
                    fused + suffix,
                    truth=unfused + suffix,
                    quick=not suffix,
                )
            )
        bound = () if suffix else (AmdahlBound("training step, Amdahl's bound", whole=unfused, part="replaced stage"),)
        goal = NEVER_SLOWER if suffix else 1.06
        benchmarks.append(
            Benchmark(
                f"model step 64{suffix}",
                "authors model",
                cases.ModelStep(64),
                (SpeedUp(f"training step, faster than unfused{label}", at_least=goal, **pair), *bound),
                fused + suffix,
                truth=unfused + suffix,
            )
        )
        for what, case, goal in (
            ("inference", cases.ModelInference(64), 0.30),
            ("training step", cases.ModelStep(64), 0.20),
        ):
            saved = {"side": fused + suffix, "baseline": unfused + suffix}
            # The promise is about plain MindSpore; with graph kernel fusion on both sides the figure only informs.
            kernels = Saved(
                f"{what}, executed kernels{label}", at_least=None if suffix else goal, fact="kernels", **saved
            )
            benchmarks.append(
                Benchmark(
                    f"model kernels and memory, {what}{suffix}",
                    "authors model, kernels and memory",
                    case,
                    (
                        Saved(f"{what}, peak memory of the process{label}", fact="peak_rss_bytes", **saved),
                        kernels,
                        Saved(f"{what}, launches seen by the profiler{label}", fact="profiled_kernels", **saved),
                        Saved(f"{what}, bytes written by kernels{label}", fact="plan_total_bytes", **saved),
                        Saved(f"{what}, peak of live results{label}", fact="plan_peak_bytes", **saved),
                    ),
                    fused + suffix,
                    truth=unfused + suffix,
                    timed=False,
                    fresh=True,
                )
            )
    return benchmarks


def _deep_model() -> list[Benchmark]:
    """Branches of two convolutions, nine tenths of whose arithmetic is a 3x3 convolution."""
    fused, unfused = "fused model", "unfused model"
    work = {f"inference {batch}": cases.ModelInference(batch, "deep") for batch in (1, 64)}
    work["training"] = cases.DeepModelStep(64)
    goals = {"inference 1": 1.5, "inference 64": 2.5, "training": 2.5}
    return [
        Benchmark(
            f"deep model {what}",
            "deep model",
            case,
            (SpeedUp(f"{what}, faster than unfused", at_least=goals[what], slow=unfused, fast=fused),),
            fused,
            truth=unfused,
        )
        for what, case in work.items()
    ]


def _int8_model() -> list[Benchmark]:
    """Classifiers on bytes beside the same in float32; the goals are against other engines, see `--peers`."""
    return [
        Benchmark(
            f"int8 {preset} {batch}",
            "int8 models",
            cases.ModelInferenceInt8(batch, preset),
            (SpeedUp(f"{preset} int8, faster than fused float32", slow="fused model", fast="int8 model"),),
            "int8 model",
            truth="fused model",
            quick=batch == 64,
        )
        for preset in ("authors", "deep")
        for batch in (1, 64)
    ]


SUITE: tuple[Benchmark, ...] = (
    *_aggregate(),
    *_reduce(),
    *_aggregate_reduce(),
    *_dense(),
    *_optimizer(),
    *_branch(),
    *_model(),
    *_deep_model(),
    *_int8_model(),
)


def select(profile: Profile, only: Sequence[str] = ()) -> list[Benchmark]:
    """The benchmarks of a profile whose name contains one of `only`, all if there is none."""
    return [
        benchmark
        for benchmark in SUITE
        if (benchmark.quick or profile.name != "quick") and (not only or any(text in benchmark.name for text in only))
    ]
