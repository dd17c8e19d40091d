"""Write the table of methods into README.md, from what the registry knows.

python scripts/readme_table.py           # write it
python scripts/readme_table.py --check   # fail if it is not up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from fairsynth.generators.registry import get_generator_class, list_generators

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- methods: scripts/readme_table.py -->", "<!-- end of methods -->"


def table() -> str:
    """Return the table as Markdown."""
    lines = [
        "| `--model` | class | what it is | published as | fairness | targets | learns from |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in list_generators():
        method = get_generator_class(name)
        can = method.capabilities
        criteria = ", ".join(word.replace("_", " ") for word in can.criteria) or "none"
        source = "a teacher's file alone" if can.data_free else "rows"
        cells = (
            f"`{name}`",
            f"`{method.__name__}`",
            can.title,
            can.paper,
            criteria,
            ", ".join(can.targets),
            source,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def updated(text: str) -> str:
    """Return the README with the table of now between the two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    text = README.read_text(encoding="utf-8")
    new = updated(text)
    if "--check" in sys.argv[1:]:
        if new != text:
            sys.exit("README.md: the table of methods is old; run python scripts/readme_table.py")
        return
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
