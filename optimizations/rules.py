"""Which options make no sense together, with the reason. No torch, like the table that it judges."""

from __future__ import annotations

from collections.abc import Mapping

from ttsbench.model.families import FAMILIES, names
from ttsbench.optimizations.registry import BY_NAME, OF_A_FORWARD, OF_STEPS, SLOTS
from ttsbench.optimizations.stacks import AMP, HALF, complete

FLASH_HALF_ONLY = "flash kernels work in fp16 and bf16 only"

# Whether it is broken, and what to say then.
Rule = tuple[bool, str]


def conflict(
    slots: Mapping[str, str], *, family: str, cfg_weight: float | None, forward_steps: int | None = None
) -> str:
    """Why this combination makes no sense for this model, or for forwards of so many steps; empty when it does."""
    chosen = complete(slots)
    for name, option in chosen.items():
        fits = BY_NAME[name].option(option).fits
        if fits is not None and not fits(FAMILIES[family]):
            return f"{name}: {option} is for {', '.join(names(fits))}, not for {family}"
    if forward_steps is not None:
        rules = (*_forward_rules(chosen, forward_steps), *_loop_rules(chosen, watches=False), *_precision_rules(chosen))
        return next((reason for broken, reason in rules if broken), "")
    if cfg_weight == 0 and FAMILIES[family].guided() and chosen["decode"] == "upstream":
        return "the package's own loop crashes at cfg_weight 0; decode: lean runs it"
    watches = FAMILIES[family].watched() and chosen["analyzer"] == "upstream"
    rules = (
        *_loop_rules(chosen, watches=watches),
        *_persistent_rules(chosen),
        *_precision_rules(chosen),
        *_s3gen_rules(chosen),
        *_batch_rules(chosen),
    )
    return next((reason for broken, reason in rules if broken), "")


def _forward_rules(chosen: Mapping[str, str], steps: int) -> tuple[Rule, ...]:
    """What a forward of the backbone alone has no use for."""
    whole = "workload.forward runs the backbone alone"
    unused = [slot for slot in SLOTS if slot.name not in OF_STEPS]
    stepless = "workload.forward.steps is 0: there is one forward, and no step after it"
    of_steps = [BY_NAME[name] for name in OF_STEPS if name not in OF_A_FORWARD]
    return (
        *((chosen[s.name] != s.default, f"{s.name}: {chosen[s.name]} has no part in this; {whole}") for s in unused),
        *((not steps and chosen[s.name] != s.default, f"{s.name}: {chosen[s.name]}: {stepless}") for s in of_steps),
        (chosen["decode"] == "cuda_graph", f"decode: cuda_graph captures the draw of a token too; {whole}"),
        (chosen["decode"] == "persistent", f"decode: persistent draws tokens too; {whole}"),
    )


def _loop_rules(chosen: Mapping[str, str], *, watches: bool) -> tuple[Rule, ...]:
    """What a loop needs, and what only our own loops can carry."""
    upstream, graph = chosen["decode"] == "upstream", chosen["decode"] == "cuda_graph"
    static = chosen["cache"] == "static"
    captures_itself = chosen["compile"] in ("reduce-overhead", "max-autotune")
    return (
        (
            chosen["analyzer"] == "off" and upstream,
            "analyzer: off needs decode: lean or cuda_graph; the package's own loop cannot run without it",
        ),
        (upstream and static, "cache: static needs decode: lean or cuda_graph; the package's own loop refuses it"),
        (
            upstream and chosen["sampler"] != "upstream",
            f"sampler: {chosen['sampler']} needs decode: lean or cuda_graph; the package's own loop draws by itself",
        ),
        (
            chosen["prompt"] == "cuda_graph" and not static,
            "prompt: cuda_graph needs cache: static; a cache that grows has other memory for each prompt",
        ),
        (graph and not static, "decode: cuda_graph needs cache: static; a cache that grows cannot be captured"),
        (
            graph and chosen["sampler"] == "upstream",
            "decode: cuda_graph needs sampler: lean or triton; the package's waits for the host at every step",
        ),
        (
            captures_itself and not static,
            f"compile: {chosen['compile']} needs cache: static; a cache that grows has other shapes at every step",
        ),
        (
            chosen["compile"] == "reduce-overhead" and graph,
            "compile: reduce-overhead captures graphs of its own; with decode: cuda_graph use default or max-autotune",
        ),
        (
            watches and (static or chosen["attention"] not in ("sdpa", "eager")),
            "the analyzer reads maps of eager attention over a growing cache; others need analyzer: off",
        ),
    )


def _persistent_rules(chosen: Mapping[str, str]) -> tuple[Rule, ...]:
    """What the one kernel needs around it, and what has no part left in it; the prompt is read as the slots say."""
    persistent = chosen["decode"] == "persistent"
    needs = (
        ("dtype", HALF, "its products are of half precision"),
        ("cache", ("static",), "it reads and writes keys and values in place"),
        ("sampler", ("triton",), "it draws with that sampler's arithmetic"),
    )
    no_part = (
        ("linear", "triton", "which makes the products of a step itself"),
        ("attention", "triton", "which attends in a step itself"),
        ("quantize", "", "which reads the weights as they are"),
        ("compile", "", "which is compiled by itself"),
    )
    return (
        *(
            (
                persistent and chosen[slot] not in options,
                f"decode: persistent needs {slot}: {' or '.join(options)}; {why}",
            )
            for slot, options, why in needs
        ),
        *(
            (
                persistent and chosen[slot] == (option or chosen[slot]) != BY_NAME[slot].default,
                f"{slot}: {chosen[slot]} has no part in decode: persistent, {why}",
            )
            for slot, option, why in no_part
        ),
    )


def _precision_rules(chosen: Mapping[str, str]) -> tuple[Rule, ...]:
    static, attention, dtype = chosen["cache"] == "static", chosen["attention"], chosen["dtype"]
    return (
        (
            attention == "triton" and not static,
            "attention: triton writes keys and values to their place itself; it needs cache: static",
        ),
        (
            attention == "triton" and chosen["rope"] != "eager",
            f"rope: {chosen['rope']} has no part in steps of attention: triton, which turns queries and keys itself",
        ),
        (
            chosen["quantize"] != "off" and chosen["qkv"] == "fused",
            "qkv: fused reads the weights as they are; with quantize use qkv: separate",
        ),
        (
            chosen["quantize"] != "off" and chosen["linear"] == "triton",
            "linear: triton reads the weights as they are; with quantize use linear: eager",
        ),
        (
            dtype in AMP and chosen["linear"] == "triton",
            f"linear: triton multiplies in the weights' own precision; with dtype: {dtype} use linear: eager",
        ),
        (
            chosen["compile"] != "off" and not static and chosen["linear"] == "triton",
            "linear: triton with compile needs cache: static; over a growing one only parts of a step are compiled",
        ),
        (
            dtype in AMP and static,
            f"dtype: {dtype} needs cache: dynamic; under autocast keys and values change their type on the way",
        ),
        (
            chosen["quantize"] != "off" and chosen["mlp"] == "triton_fused",
            "mlp: triton_fused reads the weights as they are; with quantize use mlp: triton, liger or eager",
        ),
        (
            static and attention in ("sdpa_flash", "sdpa_cudnn"),
            f"attention: {attention} takes no mask, which cache: static needs; use flash_attention_2 or cache: dynamic",
        ),
        (
            chosen["quantize"] != "off" and dtype != "bf16",
            f"quantize: {chosen['quantize']} multiplies in bf16; it needs dtype: bf16",
        ),
        (
            attention in ("flash_attention_2", "sdpa_flash", "sdpa_cudnn") and dtype not in (*HALF, *AMP),
            f"attention: {attention} needs dtype fp16, bf16 or amp_*; {FLASH_HALF_ONLY}",
        ),
    )


def _s3gen_rules(chosen: Mapping[str, str]) -> tuple[Rule, ...]:
    """What cannot be captured, compiled or computed together in S3Gen."""
    waits = chosen["s3gen_attention"] == "upstream"
    graph, mode, dtype = chosen["s3gen_graph"], chosen["s3gen_compile"], chosen["s3gen_dtype"]
    return (
        (
            graph != "off" and waits,
            f"s3gen_graph: {graph} needs s3gen_attention: sdpa or flash_attention_2; upstream's waits for the host",
        ),
        (
            mode != "off" and waits,
            f"s3gen_compile: {mode} needs s3gen_attention: sdpa or flash_attention_2; upstream's waits for the host",
        ),
        (
            mode == "reduce-overhead" and graph != "off",
            "s3gen_compile: reduce-overhead captures graphs of its own; with s3gen_graph use default or max-autotune",
        ),
        (
            chosen["s3gen_attention"] == "flash_attention_2" and dtype not in HALF,
            "s3gen_attention: flash_attention_2 needs s3gen_dtype: fp16 or bf16; its kernels know nothing else",
        ),
    )


def _batch_rules(chosen: Mapping[str, str]) -> tuple[Rule, ...]:
    """What a batch of utterances at positions of their own needs."""
    batched = chosen["serve"] == "batched"
    captures_itself = chosen["s3gen_compile"] in ("reduce-overhead", "max-autotune")
    needs = (
        ("decode", ("lean", "cuda_graph"), "the package's own loop speaks one utterance"),
        ("cache", ("static",), "utterances join and leave it in place"),
        ("sampler", ("lean",), "it draws each row from a stream of its own"),
        ("s3gen_attention", ("sdpa", "flash_attention_2"), "upstream's S3Gen lets padding into the last tokens"),
    )
    return (
        *(
            (batched and chosen[slot] not in options, f"serve: batched needs {slot}: {' or '.join(options)}; {reason}")
            for slot, options, reason in needs
        ),
        (
            batched and "tf32" in (chosen["dtype"], chosen["s3gen_dtype"]),
            "serve: batched takes no tf32; it is allowed for a whole process, and T3 and S3Gen work at once",
        ),
        (
            batched and chosen["attention"].startswith("sdpa_"),
            f"attention: {chosen['attention']} is chosen for a whole process; with serve: batched S3Gen works at once",
        ),
        (
            batched and captures_itself and chosen["s3gen_graph"] == "off",
            f"s3gen_compile: {chosen['s3gen_compile']} captures for one thread; with serve: batched use default",
        ),
        (
            batched and chosen["vocoder"] == "graph",
            "vocoder: graph is captured for each length; with serve: batched use folded or compile",
        ),
    )
