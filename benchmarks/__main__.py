"""Run the measurements: ``python -m benchmarks [WHAT]``."""

from __future__ import annotations

import argparse
import json


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    what = parser.add_subparsers(dest="what")
    quality = what.add_parser("quality", help="fairness, utility, fidelity over seeds")
    quality.add_argument("dataset")
    quality.add_argument("--strength", type=float, default=1.0)
    quality.add_argument("--depth", default="core")
    quality.add_argument("--model", default="fairvae")
    quality.add_argument("--times", type=int, default=1, help="rows drawn for each training row")
    dial = what.add_parser("dial", help="strength against fairness")
    dial.add_argument("dataset", nargs="?", default="adult")
    for parent in (quality, dial):
        parent.add_argument("--sensitive", action="append")
        parent.add_argument("--seeds", type=int, default=5)
        parent.add_argument("--criterion", default="demographic_parity")
    speed = what.add_parser("speed", help="seconds, rows a second, memory")
    speed.add_argument("--many", type=int, default=20_000_000)
    speed.add_argument("--model", default="fairvae")
    what.add_parser("evaluation", help="seconds and memory of the evaluation")
    what.add_parser("penalty", help="cost of a step of each penalty")
    what.add_parser("tables", help="print what was measured as Markdown")
    for named, told in (
        ("fade-shift", "an unseen domain"),
        ("fade-frontier", "the two weights of FADE, and audits of s"),
        ("fade-solvers", "fast solvers against the reference"),
    ):
        one = what.add_parser(named, help=told)
        one.add_argument("dataset", nargs="?", default="sqf" if named == "fade-shift" else "adult")
        one.add_argument("--sensitive", action="append")
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--steps", type=int)
        one.add_argument("--space", default="latent")
        one.add_argument("--rows", type=int, default=10_000)
        one.add_argument("--models", nargs="*", default=["fairvae", "fair-trees", "fade"])
    fair = what.add_parser("mitigators", help="every mitigator once, on the published split")
    fair.add_argument("dataset", nargs="?", default="adult")
    fair.add_argument("--sensitive", action="append")
    fair.add_argument("--seed", type=int, default=0)
    fair.add_argument("--only", action="append", help="this method only (may be given again)")
    fair.add_argument("--checks", action="store_true", help="look into two results that look like mistakes")
    fair.add_argument("--table", action="store_true", help="only write docs/research/mitigators.md")
    whole = what.add_parser("field", help="every generator on four tables over seeds, in one table")
    whole.add_argument("--dataset", action="append", choices=("german", "compas", "adult", "bank"))
    whole.add_argument("--model", action="append", help="this method only (may be given again)")
    whole.add_argument("--seeds", type=int, default=3)
    whole.add_argument(
        "--limit-seconds",
        type=float,
        default=2400,
        help="of the processor, for one cell (10 times that by the clock)",
    )
    whole.add_argument("--budget-seconds", type=float, default=float("inf"), help="begin no cell after that")
    whole.add_argument("--again", action="store_true", help="run cells that are there, too")
    whole.add_argument("--table", action="store_true", help="only write docs/research/field.md")
    pictures = what.add_parser("images", help="Colored MNIST: every generator of images against its targets")
    pictures.add_argument("--correlation", type=float, default=0.95)
    pictures.add_argument("--seeds", type=int, default=1)
    pictures.add_argument("--images", type=int, help="learn from the first so many only")
    pictures.add_argument(
        "--threads", type=int, default=1, help="inside of one operation, while the teacher learns"
    )
    pictures.add_argument(
        "--methods", nargs="*",
        default=["fairvae", "latent-distillation", "fair4free", "fldgm", "fldgm:wgan-gp", "fldgm:lsgan", "fade"],
    )  # fmt: skip
    attempt = what.add_parser(
        "images-trial", help="one setting of the teacher of images, on digits kept to choose by"
    )
    attempt.add_argument("--images", type=int, default=20_000)
    attempt.add_argument("--settings", default="{}", help='as JSON: \'{"epochs": 6, "beta": 4}\'')
    attempt.add_argument("--temperatures", type=float, nargs="*", default=[1.0, 0.8])
    scale = what.add_parser("scale", help="50 million rows fitted from Parquet, 100 million drawn")
    scale.add_argument("--rows", type=int, nargs="*", default=[500_000, 5_000_000, 50_000_000])
    scale.add_argument("--many", type=int, default=100_000_000, help="rows drawn; 0 for none")
    scale.add_argument("--folder", help="where the temporary files go")
    profiled = what.add_parser("profile", help="where the time of audited trees goes")
    profiled.add_argument("--part", choices=("fit", "stream", "sample"), required=True)
    profiled.add_argument("--dataset", default="adult")
    profiled.add_argument("--lines", type=int, default=25)
    profiled.add_argument("--rows", type=int, default=2_000_000, help="of the stream")
    chosen = parser.parse_args()

    from benchmarks import dial as dials
    from benchmarks import evaluation as evaluations
    from benchmarks import penalty, tables
    from benchmarks import quality as qualities
    from benchmarks import speed as speeds

    if chosen.what == "quality":
        qualities.run(
            chosen.dataset, chosen.sensitive, seeds=chosen.seeds, criterion=chosen.criterion,
            strength=chosen.strength, depth=chosen.depth, model=chosen.model, times=chosen.times,
        )  # fmt: skip
    elif chosen.what == "dial":
        dials.run(chosen.dataset, chosen.sensitive, seeds=chosen.seeds, criterion=chosen.criterion)
    elif chosen.what == "speed":
        speeds.run(many=chosen.many, model=chosen.model)
    elif chosen.what == "evaluation":
        evaluations.run()
    elif chosen.what == "penalty":
        penalty.run()
    elif chosen.what == "field":
        from benchmarks import field, field_table

        if not chosen.table:
            field.run(
                chosen.dataset or list(field.TABLES), chosen.model, seeds=chosen.seeds,
                limit=chosen.limit_seconds, budget=chosen.budget_seconds, again=chosen.again,
            )  # fmt: skip
        field_table.write()
    elif chosen.what == "mitigators":
        from benchmarks import checks, mitigators

        if chosen.checks:
            checks.run(chosen.dataset, chosen.sensitive, seed=chosen.seed)
        elif not chosen.table:
            mitigators.run(chosen.dataset, chosen.sensitive, seed=chosen.seed, only=chosen.only)
        tables.mitigators_page()
    elif chosen.what == "fade-shift":
        from benchmarks import fade

        fade.shift(
            chosen.dataset,
            seed=chosen.seed,
            steps=chosen.steps,
            models=tuple(chosen.models),
            space=chosen.space,
        )
    elif chosen.what in ("fade-frontier", "fade-solvers"):
        from benchmarks import fade

        measure = fade.frontier if chosen.what == "fade-frontier" else fade.solvers
        measure(
            chosen.dataset, chosen.sensitive or ["sex"], seed=chosen.seed, steps=chosen.steps,
            rows=chosen.rows, space=chosen.space,
        )  # fmt: skip
    elif chosen.what == "images":
        from benchmarks import images

        images.run(
            correlation=chosen.correlation, seeds=chosen.seeds, methods=chosen.methods, images=chosen.images,
            threads=chosen.threads,
        )  # fmt: skip
    elif chosen.what == "images-trial":
        from benchmarks import images

        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(chosen.settings).items()}
        images.trial(settings, images=chosen.images, temperatures=tuple(chosen.temperatures))
    elif chosen.what == "scale":
        from benchmarks import scale as scales

        scales.run(rows=tuple(chosen.rows), many=chosen.many, folder=chosen.folder)
    elif chosen.what == "profile":
        from benchmarks import profile as profiles

        profiles.run(chosen.part, dataset=chosen.dataset, lines=chosen.lines, rows=chosen.rows)
    elif chosen.what == "tables":
        print(tables.all_tables())
    else:
        speeds.run()
        penalty.run()
        evaluations.run()
        for name, column in (("adult", "sex"), ("compas", "race"), ("german", "sex")):
            qualities.run(name, [column], seeds=5, criterion="demographic_parity", strength=1.0, depth="core")
        dials.run("adult", ["sex"], seeds=2, criterion="demographic_parity")
        print(tables.all_tables())


if __name__ == "__main__":
    main()
