"""The same clients and rounds as apps of Flower's, for its simulation engine. Lab only: flwr, and ray to run it.

    run_simulation(server_app(rounds, names), client_app(make), num_supernodes=len(names))

`unmask federate` needs none of this: in process, clients cost no start-up, and deployed ones carry no code.
"""

import time
from collections.abc import Callable, Sequence

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from unmask.errors import DataError
from unmask.federation.client import Client
from unmask.federation.local import answer
from unmask.federation.rounds import Rounds

_NUMBER, _PARTITION = "number", "partition-id"
_STARTING = 60.0  # seconds


def client_app(make: Callable[[int], Client]) -> ClientApp:
    """Clients as an app: each node trains the client of its partition's number.

    Args:
        make: the client of a number, from 0; Ray sends it to its workers, which import what it names.
    """
    app = ClientApp()

    @app.query()
    def number(message: Message, context: Context) -> Message:
        partition = ConfigRecord({_NUMBER: int(context.node_config[_PARTITION])})
        return Message(RecordDict({_NUMBER: partition}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return answer(make(int(context.node_config[_PARTITION])), message)

    return app


def server_app(rounds: Rounds, names: Sequence[str]) -> ServerApp:
    """Rounds as an app; their folder has the result.

    Args:
        rounds: to run, or the rest of them.
        names: of the clients, by their numbers.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        end = time.monotonic() + _STARTING
        while len(list(grid.get_node_ids())) < len(names) and time.monotonic() < end:
            time.sleep(0.1)  # nodes register while this begins
        asked = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
        nodes = {}
        for reply in grid.send_and_receive(asked):
            if reply.has_error():
                raise DataError(f"a node of the simulation does not answer: {reply.error.reason}")
            number = reply.content.config_records[_NUMBER][_NUMBER]
            nodes[names[int(number)]] = reply.metadata.src_node_id  # type: ignore[arg-type]
        if len(nodes) != len(names):
            raise DataError(f"{len(nodes)} nodes in the simulation for {len(names)} clients; give num_supernodes")
        rounds.run(grid, nodes)

    return app
