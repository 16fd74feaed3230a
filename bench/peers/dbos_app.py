"""DBOS' contender: the handlers of `bench.apps.waits` as DBOS workflows behind Starlette and uvicorn, in an own environment.

DBOS has no keyed state and no ingress: the object is a row that a transaction counts up, and HTTP is a plain web app, as its
guide has it. An event's step writes its output record, without waiting for the broker's word.
"""

import asyncio
import json
import os

import sqlalchemy as sa
import uvicorn
from dbos import DBOS, AsyncSQLAlchemyDatasource, DBOSConfig, KafkaMessage
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

URL = os.environ["BENCH_DATABASE"]
POOL = 20
config: DBOSConfig = {
    "name": "bench-waits",
    "system_database_url": URL,
    "sys_db_pool_size": POOL,
    "log_level": "ERROR",
    "kafka_queue_polling_interval_sec": 0.02,  # its default of a second would be most of what is measured
}
dbos = DBOS(config=config)
COUNT = sa.text(
    "INSERT INTO counters VALUES (:key, 1) ON CONFLICT (key) DO UPDATE SET count = counters.count + 1 RETURNING count"
)
datasource: AsyncSQLAlchemyDatasource


async def count_up(key: str) -> int:
    return (await datasource.sql_session().execute(COUNT, {"key": key})).scalar_one()


@DBOS.workflow()
async def add(key: str) -> int:
    return await datasource.run_tx_step_async({"isolation_level": "READ COMMITTED"}, count_up, key)


@DBOS.step()
async def plus_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
async def three_steps() -> int:
    first = await plus_one(0)
    second = await plus_one(first)
    return await plus_one(second)


@DBOS.workflow()
async def one(number: int) -> int:
    return number


@DBOS.workflow()
async def spread(calls: int) -> int:
    asked = [await DBOS.start_workflow_async(one, number) for number in range(calls)]
    return sum([await handle.get_result() for handle in asked])


if "BENCH_BOOTSTRAP_SERVERS" in os.environ:
    from confluent_kafka import Producer

    servers = os.environ["BENCH_BOOTSTRAP_SERVERS"]
    output = os.environ["BENCH_OUTPUT"]
    producer = Producer({"bootstrap.servers": servers, "partitioner": "murmur2_random"})
    consumer = {"bootstrap.servers": servers, "group.id": f"{output}-dbos", "auto.offset.reset": "earliest"}

    @DBOS.step()
    async def tell(key: bytes, step_s: float) -> None:
        if step_s:
            await asyncio.sleep(step_s)
        producer.produce(output, b'{"count":0}', key)
        producer.poll(0)

    @DBOS.kafka_consumer(consumer, [os.environ["BENCH_INPUT"]])
    @DBOS.workflow()
    async def on_event(message: KafkaMessage) -> None:
        assert isinstance(message.key, bytes)
        assert message.value is not None
        await tell(message.key, json.loads(message.value).get("step_s", 0.0))


async def http_add(request: Request) -> JSONResponse:
    return JSONResponse(await add(request.path_params["key"]))


async def http_three_steps(_: Request) -> JSONResponse:
    return JSONResponse(await three_steps())


async def http_spread(request: Request) -> JSONResponse:
    return JSONResponse(await spread(await request.json()))


async def health(_: Request) -> Response:
    return Response()


async def main() -> None:
    """Make the tables, start DBOS, serve HTTP until SIGTERM."""
    global datasource
    url = URL.replace("postgresql://", "postgresql+psycopg://")
    datasource = await AsyncSQLAlchemyDatasource.create(url, {"pool_size": POOL})
    async with datasource.engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE IF NOT EXISTS counters (key TEXT PRIMARY KEY, count INT NOT NULL)"))
    DBOS.launch()
    routes = [
        Route("/counter/{key}/add", http_add, methods=["POST"]),
        Route("/work/three_steps", http_three_steps, methods=["POST"]),
        Route("/work/spread", http_spread, methods=["POST"]),
        Route("/health", health),
    ]
    server = uvicorn.Config(Starlette(routes=routes), port=int(os.environ["BENCH_PORT"]), log_level="error", access_log=False)
    await uvicorn.Server(server).serve()
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main())
