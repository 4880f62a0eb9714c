"""Every router of the benchmark by name, with what it is and where it comes from."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from proteus_router.baselines.bandit import PrimalDualLinUCB
from proteus_router.baselines.base import BenchRouter
from proteus_router.baselines.carrot import Carrot
from proteus_router.baselines.classifier import BestModelClassifier
from proteus_router.baselines.clusters import AvengersPro
from proteus_router.baselines.encoders import BesideWords, FineTuned, InPlaceOfWords
from proteus_router.baselines.fixed import AlwaysBest, AlwaysCheapest, StaticMix, UniformRandom
from proteus_router.baselines.linear import Linear
from proteus_router.baselines.neighbours import NearestNeighbours
from proteus_router.baselines.networks import ThreeLayers
from proteus_router.baselines.omnirouter import OmniRouter
from proteus_router.baselines.ours import (
    OneHead,
    OwnHeads,
    Proteus,
    TrainedPolicy,
    WithoutConvexification,
    own_heads_plugin,
)
from proteus_router.baselines.paper import Paper
from proteus_router.baselines.predicting import BestPredicted, PriceSweep
from proteus_router.errors import ConfigError

__all__ = ["REGISTRY", "Entry", "Kind", "reference", "select"]

Kind = Literal["baseline", "ours", "ablation", "paper"]


_FEW = 2
"""Seeds of what takes minutes a cell."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One router of the registry.

    Attributes
    ----------
    name
        What `--routers` takes.
    title
        What tables and figures print.
    kind
        baseline: of others, or needing no learning; ours; ablation: ours with one part changed; paper: the
        configuration of arXiv 2601.19402 and its ablations.
    factory
        Makes the unfitted router; heavy imports happen in its `fit`.
    source
        Where the method comes from, and how it was set up where its paper leaves that open.
    knob
        What the sweep turns, or "" where there is a single point.
    quick
        Part of `make bench-quick`.
    max_seeds
        Seeds of a full run that it takes part in; None: all.
    batch
        Decides about all texts of a call together, so one text's model may depend on the others.
    """

    name: str
    title: str
    kind: Kind
    factory: Callable[[], BenchRouter]
    source: str
    knob: str = ""
    quick: bool = True
    max_seeds: int | None = None
    batch: bool = False


_OTHERS = (
    Entry("always-cheapest", "always cheapest", "baseline", AlwaysCheapest, "paper, section 6"),
    Entry("always-best", "always best", "baseline", AlwaysBest, "paper, section 6"),
    Entry("random", "uniform random", "baseline", UniformRandom, "paper, section 6"),
    Entry(
        "static-mix",
        "static mix",
        "baseline",
        StaticMix,
        "cheapest random mix of fixed models, a linear program",
        knob="mix of models",
    ),
    Entry(
        "knn-5",
        "kNN, k = 5",
        "baseline",
        lambda: BestPredicted("knn-5", NearestNeighbours(5)),
        "paper, section 6: best mean score of the 5 nearest queries; cosine of word TF-IDF",
    ),
    Entry(
        "knn",
        "kNN, k tuned",
        "baseline",
        lambda: PriceSweep("knn", NearestNeighbours()),
        "RouterBench (2403.12031): mean score and cost of the k nearest queries, k by out-of-fold error",
        knob="price of cost",
    ),
    Entry(
        "mlp",
        "MLP, 3 layers",
        "baseline",
        lambda: BestPredicted("mlp", ThreeLayers()),
        "paper, section 6: best score predicted by a network of 3 layers on the dense view",
    ),
    Entry(
        "mlp-swept",
        "MLP, swept",
        "baseline",
        lambda: PriceSweep("mlp-swept", ThreeLayers()),
        "RouterBench (2403.12031): the same network, each model at its mean cost",
        knob="price of cost",
    ),
    *(
        Entry(
            f"carrot-{mu:g}",
            f"CARROT, mu = {mu:g}",
            "baseline",
            partial(Carrot, f"carrot-{mu:g}", mu),
            "CARROT (2502.03261): ridge heads; cost in units of the dearest model's mean",
        )
        for mu in (0.1, 0.5, 0.9)
    ),
    Entry(
        "carrot",
        "CARROT, swept",
        "baseline",
        lambda: Carrot("carrot"),
        "CARROT (2502.03261): ridge heads for score and log cost",
        knob="mu",
    ),
    Entry(
        "routellm",
        "RouteLLM-style",
        "baseline",
        lambda: BestPredicted("routellm", BestModelClassifier()),
        "RouteLLM (2406.18665) with many models: the most probable best model, multinomial logistic",
    ),
    Entry(
        "routellm-swept",
        "RouteLLM-style, swept",
        "baseline",
        lambda: PriceSweep("routellm-swept", BestModelClassifier()),
        "the same classifier; a price of cost in the place of the threshold",
        knob="price of cost",
    ),
    Entry(
        "omnirouter",
        "OmniRouter-style",
        "baseline",
        OmniRouter,
        "OmniRouter (2502.20576): two-headed network, batch Lagrangian, alpha is the target",
        knob="alpha",
        batch=True,
    ),
    Entry(
        "avengers-pro",
        "Avengers-Pro-style",
        "baseline",
        AvengersPro,
        "Avengers-Pro (2508.12631): k-means, balance of accuracy and cost in each cluster",
        knob="weight of accuracy",
    ),
    Entry(
        "plugin-ridge",
        "plug-in, ridge",
        "baseline",
        lambda: PriceSweep("plugin-ridge", Linear("squared")),
        "argmax p - price c: ridge on the dense view, penalty by out-of-fold error, mean costs",
        knob="price of cost",
    ),
    Entry(
        "plugin-logistic",
        "plug-in, logistic",
        "baseline",
        lambda: PriceSweep("plugin-logistic", Linear("log")),
        "argmax p - price c: logistic regression a model, penalty by out-of-fold error, mean costs",
        knob="price of cost",
    ),
    Entry(
        "linucb",
        "primal-dual LinUCB",
        "baseline",
        PrimalDualLinUCB,
        "LinUCB (1003.0146) with a multiplier on the floor; sees the chosen model's outcome alone",
        knob="target",
    ),
    Entry(
        "plugin-own-heads",
        "plug-in, our heads",
        "baseline",
        own_heads_plugin,
        "argmax p - price c on our own heads: what a trained policy has to beat",
        knob="price of cost",
    ),
)

_OURS = (
    Entry(
        "proteus", "PROTEUS", "ours", Proteus, "what `proteus train` ships by default", knob="accuracy target"
    ),
)

_ABLATIONS = (
    Entry(
        "trained-policy",
        "trained policy",
        "ablation",
        lambda: TrainedPolicy("trained-policy"),
        "the trained policy whether or not it would ship; what the next four are ablations of",
        knob="mu",
    ),
    Entry(
        "no-lambda",
        "no lambda",
        "ablation",
        lambda: TrainedPolicy("no-lambda", (("dual", "scalar"), ("dual_rate", 0.0))),
        "trained policy, one multiplier for all targets, never updated",
        knob="mu",
    ),
    Entry(
        "scalar-dual",
        "scalar dual",
        "ablation",
        lambda: TrainedPolicy("scalar-dual", (("dual", "scalar"),)),
        "trained policy, one multiplier for all targets, updated by their mean shortfall",
        knob="mu",
    ),
    Entry(
        "gamma-3",
        "gamma = 3",
        "ablation",
        lambda: TrainedPolicy("gamma-3", (("learn_gamma", False), ("gamma_init", 3.0))),
        "trained policy, gamma fixed at 3.0",
        knob="mu",
    ),
    Entry(
        "no-target-conditioning",
        "no target-conditioning",
        "ablation",
        lambda: TrainedPolicy("no-target-conditioning", conditioned=False),
        "trained policy, one mu (the mean over targets) for every target",
    ),
    Entry(
        "no-convexification",
        "no convexification",
        "ablation",
        WithoutConvexification,
        "our plug-in, each target served by a single point instead of a mix of two",
        knob="price of cost",
    ),
    Entry(
        "mean-costs",
        "mean costs",
        "ablation",
        lambda: PriceSweep("mean-costs", OwnHeads("mean")),
        "our plug-in, each model at its mean cost instead of a predicted one",
        knob="price of cost",
    ),
    Entry(
        "head-kernel",
        "kernel head alone",
        "ablation",
        lambda: PriceSweep("head-kernel", OneHead("kernel")),
        "our plug-in on the word kernel alone",
        knob="price of cost",
    ),
    Entry(
        "head-forest",
        "forest head alone",
        "ablation",
        lambda: PriceSweep("head-forest", OneHead("forest")),
        "our plug-in on the forest of trees alone",
        knob="price of cost",
    ),
    Entry(
        "encoder-minilm",
        "MiniLM alone",
        "ablation",
        lambda: PriceSweep("encoder-minilm", InPlaceOfWords()),
        "our plug-in, kernel and forest on all-MiniLM-L6-v2 in the place of words",
        knob="price of cost",
        quick=False,
        max_seeds=_FEW,
    ),
    Entry(
        "encoder-both",
        "words and MiniLM",
        "ablation",
        lambda: PriceSweep("encoder-both", BesideWords()),
        "our plug-in, all-MiniLM-L6-v2 beside words: `proteus train --encoder minilm`",
        knob="price of cost",
        quick=False,
        max_seeds=_FEW,
    ),
    Entry(
        "encoder-transformer",
        "tuned transformer",
        "ablation",
        lambda: PriceSweep("encoder-transformer", FineTuned()),
        "our plug-in, scores from DeBERTa-v3-small tuned end to end; where its weights are there",
        knob="price of cost",
        quick=False,
        max_seeds=_FEW,
    ),
)

_PAPER = (
    Entry(
        "paper",
        "paper mode",
        "paper",
        Paper,
        "arXiv 2601.19402 to the letter, but 2,000 updates of 10,000; targets served natively",
        knob="tau",
        quick=False,
    ),
    *(
        Entry(
            f"paper-{slug}",
            f"paper mode, {title}",
            "paper",
            partial(Paper, f"paper-{slug}", update),
            f"the same, {what}",
            knob="tau",
            quick=False,
            max_seeds=_FEW,
        )
        for slug, title, update, what in (
            ("no-lambda", "no lambda", (("use_dual", False),), "lambda stays 1"),
            ("no-critic", "no critic", (("use_critic", False),), "the batch's mean reward is the baseline"),
            ("gamma-3", "gamma = 3", (("learn_gamma", False),), "gamma fixed at 3.0"),
            ("no-tau", "no tau-conditioning", (("tau_conditioning", False),), "the policy sees no target"),
        )
    ),
)

_ENTRIES = (
    *_OTHERS,
    *_OURS,
    *_ABLATIONS,
    *_PAPER,
)

REGISTRY: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
"""name -> entry, in the order of tables."""


def select(names: Iterable[str] | None = None, *, quick: bool = False) -> list[Entry]:
    """Entries of the given names in the registry's order; all, or the quick ones, without names.

    Raises
    ------
    ConfigError
        An unknown name; the nearest known one is named.
    """
    if names is None:
        return [entry for entry in REGISTRY.values() if entry.quick or not quick]
    wanted = set(names)
    for name in sorted(wanted - REGISTRY.keys()):
        near = difflib.get_close_matches(name, REGISTRY, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(REGISTRY)}."
        raise ConfigError(f"no router named {name!r}.", hint=hint)
    return [entry for entry in REGISTRY.values() if entry.name in wanted]


def reference() -> str:
    """The registry as a Markdown table, for docs/baselines.md."""
    lines = ["| `--routers` | kind | what it is | knob swept |", "|---|---|---|---|"]
    lines += [
        f"| `{entry.name}` | {entry.kind} | {entry.source}"
        f"{f' ({entry.max_seeds} seeds)' if entry.max_seeds else ''} | {entry.knob or '-'} |"
        for entry in REGISTRY.values()
    ]
    return "\n".join(lines) + "\n"
