"""All planted bugs, in the order of their numbers."""

from __future__ import annotations

from tests.simulation.mutants.of_answers import ANSWERS
from tests.simulation.mutants.of_chain import VERDICTS, WALK
from tests.simulation.mutants.of_fees import FEES
from tests.simulation.mutants.of_storage import STORAGE
from tests.simulation.mutants.planting import Mutant

MUTANTS: tuple[Mutant, ...] = (*WALK, *VERDICTS, *ANSWERS, *FEES, *STORAGE)

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
