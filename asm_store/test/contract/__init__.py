"""Every rule of a session store, as a TestCase mixin."""

from __future__ import annotations

from .appends import Appends
from .batches import Batches
from .columns import Columns
from .costs import Costs
from .deadlocks import Deadlocks
from .deletion_races import DeletionRaces
from .expected import ExpectedSequence
from .flush import Flush
from .hostile import HostileJson, HostileText
from .identifiers import Identifiers
from .interleavings import Interleavings
from .lines import Lines
from .managed import Managed
from .processes import ProcessRaces
from .races import Races
from .reading import Reading
from .runs import Runs
from .sessions import Sessions
from .signals import Signals
from .streams import Streams
from .switches import Switches
from .tasks import Tasks
from .transactions import Transactions
from .twins import Twins
from .updates import Updates
from .waits import Waits
from .writer_blocks import WritersInBlocks
from .writers import Writers


class SessionStoreContract(
    Sessions,
    Updates,
    Runs,
    Costs,
    Appends,
    Batches,
    ExpectedSequence,
    Flush,
    Reading,
    Lines,
    Streams,
    Writers,
    WritersInBlocks,
    Tasks,
    Columns,
    HostileText,
    HostileJson,
    Identifiers,
    Signals,
    Twins,
    Transactions,
    Waits,
    Managed,
    Interleavings,
    Deadlocks,
    Switches,
    Races,
    DeletionRaces,
    ProcessRaces,
):
    """The contract suite. The project's own stores pass it; yours can be proved by it:

        class MyStoreTests(SessionStoreContract, TransactionTestCase):
            make_store_path = "my_package.stores:for_tests"

            def make_store(self) -> MyStore:
                return MyStore()

    `make_store()` returns a fresh handle on the store under test; within one test all of them
    have the same data, and every test begins with an empty store. `make_store_path` names a
    function without arguments that returns such a handle in another process; when it is None, or
    the store says `supports_processes = False`, the races of processes are skipped.

    A store in a database needs `TransactionTestCase` (its data are really committed, seen by
    threads and processes) and, on SQLite, a test database in a file (`TEST["NAME"]`).
    `count_orphans()` can be overridden to look behind a store that keeps no Django models.
    """
