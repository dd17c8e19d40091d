"""Data-parallel training: several processes, perhaps on several machines, take each step together.

Every process (*rank*) reads the same table and makes the same network. Of the rows of a step each takes its part, so
that the rows of a step are as many as on one machine and the settings mean what they always mean; the gradients are
averaged, weighted by rows, and every rank takes the same step. What follows training (the law of the latent, the
calibration) is a function of the network, the table and the seed, so every rank comes to the same model, and rank 0
writes it.

A loss that is a mean over its rows has the same gradient, up to rounding, as in one process. Two things differ:
chance inside of the loss is drawn by each rank for its own rows, and a penalty on pairs of rows sees the pairs within
a rank.

Nothing is shared unless `joined` is entered: a program that uses ``torch.distributed`` for something else is left
alone. The processes talk by gloo, in tensors only; nothing is pickled.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from fairsynth.errors import SettingsError

if TYPE_CHECKING:  # every checkpoint asks who writes, and trees are fitted without torch
    from torch import Tensor, nn

__all__ = ["Team", "joined", "launched", "team"]

#: Variables by which ``torchrun`` tells a process who it is.
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass
class Team:
    """The processes that take each step together.

    Attributes
    ----------
    rank : int
        Which of them this is, from 0.
    size : int
        How many there are.
    steps : int
        Steps that were taken together so far.
    """

    rank: int = 0
    size: int = 1
    steps: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """Return this rank's part of the rows of a step.

        Raises
        ------
        SettingsError
            If there are fewer rows than processes.
        """
        if self.size == 1:
            return rows
        if len(rows) < self.size:
            raise SettingsError(
                f"a step of {len(rows)} rows cannot be shared by {self.size} processes; start fewer, or give a larger "
                "batch_size."
            )
        return rows[self.rank :: self.size]

    def average(self, parameters: Sequence[nn.Parameter], rows: int) -> None:
        """Replace the gradients by their mean over all ranks, weighted by the `rows` that each is of.

        A parameter that has a gradient on no rank keeps none, so that the optimiser leaves it alone as it would in
        one process.
        """
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        there = torch.tensor([float(p.grad is not None) for p in parameters] + [float(rows)])
        parts = [
            (torch.zeros_like(p) if p.grad is None else p.grad).detach().reshape(-1).cpu() * rows
            for p in parameters
        ]
        summed = torch.cat([*parts, there.to(parts[0].dtype)])
        dist.all_reduce(summed)
        total, place = summed[-1], 0
        for i, parameter in enumerate(parameters):
            size = parameter.numel()
            if summed[len(summed) - len(there) + i] > 0:
                mean = (summed[place : place + size] / total).reshape(parameter.shape)
                parameter.grad = mean.to(parameter.device)
            place += size
        self.steps += 1

    def agree(self, what: str, parameters: Sequence[nn.Parameter]) -> None:
        """Find out whether all ranks are about to do the same from the same state.

        Parameters
        ----------
        what : str
            Names the steps and where they begin.
        parameters : sequence of Parameter
            As they are before the first step.

        Raises
        ------
        SettingsError
            If any rank has other parameters, other data, other settings, or begins elsewhere.
        """
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        digest = hashlib.sha256(what.encode())
        for parameter in parameters:
            digest.update(parameter.detach().cpu().numpy().tobytes())
        own = torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8).to(torch.int64)
        all_ = [torch.zeros_like(own) for _ in range(self.size)]
        dist.all_gather(all_, own)
        other = [rank for rank, theirs in enumerate(all_) if not torch.equal(theirs, all_[0])]
        if other:
            raise SettingsError(
                f"the processes of rank 0 and {', '.join(map(str, other))} are not about to do the same ({what} on "
                f"rank {self.rank}): give all of them the same table, settings and seed, and a checkpoint folder that "
                "all of them see."
            )


#: A process by itself, and the team that this process has joined.
_ALONE = Team()
_current = _ALONE


def team() -> Team:
    """Return the team that this process has joined, or one of it alone."""
    return _current


def launched() -> bool:
    """Whether this process was started as one of several, by ``torchrun`` or alike."""
    return all(name in os.environ for name in _VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def joined(*, minutes: float = 30.0) -> Iterator[Team]:
    """Train together with the other processes of ``torchrun`` for the length of a block.

    Parameters
    ----------
    minutes : float, default=30
        How long to wait for another process before it is taken for dead.

    Yields
    ------
    Team
        Which of them this process is. Let the one that is `Team.first` write what was learned.

    Raises
    ------
    SettingsError
        If the process was not started as one of several, or the others cannot be reached.

    Examples
    --------
    As ``torchrun --nproc-per-node 4 this_file.py``::

        with joined() as team:
            model = FairVAE().fit(table)  # all of them
            if team.first:
                model.save("model.fairsynth")
    """
    global _current
    import torch.distributed as dist

    # Functions of this module keep the group that there is when it is imported, which optimisers do at some time.
    # The threads of a group that somebody keeps outlive it, and one that still runs when Python ends aborts.
    import torch.distributed.nn  # noqa: F401

    if not launched():
        raise SettingsError(
            "this process was not started as one of several; start it with torchrun --nproc-per-node N."
        )
    own = not dist.is_initialized()
    if own:
        try:
            dist.init_process_group("gloo", timeout=timedelta(minutes=minutes))
        except (RuntimeError, ValueError) as error:
            raise SettingsError(f"the other processes cannot be reached: {error}") from error
    before, _current = _current, Team(dist.get_rank(), dist.get_world_size())
    try:
        yield _current
        dist.barrier()  # nobody leaves while another still writes
    finally:
        # When this one fails, the others may wait for it: without a group they fail, too.
        _current = before
        if own:
            dist.destroy_process_group()
