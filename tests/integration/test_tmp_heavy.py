import json, time, uuid, asyncio
from tests.integration.test_attacks import *
from tests.system import System

async def furnish(system):
    slow = {"properties": {"n": {"items": {"not": {"anyOf": [{"const": -n} for n in range(1, 400)]}}}}}
    rule = {"name": "slow", "parameters": slow, "start_date": "2020-01-01"}
    await system.command("create_customer", {"name":"V","email":"v@example.com","customer_id":VICTIM})
    await system.command("create_product", {"mnemonic":"GUARDED","overview":""}, version=2)
    r = await system.command("set_validation_rules", {"mnemonic":"GUARDED","rules":[rule]})
    assert r.status == 200

async def test_orders(system: System) -> None:
    w = await system.start("commands", LOG_LEVEL="INFO")
    await furnish(system)
    line = {"mnemonic": "GUARDED", "quantity": 1, "unit_price": "1", "attributes": {"n": list(range(300))}}
    body = {"kind":"place_order","payload":{"customer_id": VICTIM, "lines":[line]}}
    t=time.time()
    sent=[await system.send("commands", body, partition=0) for _ in range(200)]
    v = await system.send("commands", {"kind":"create_customer","payload":{"name":"x","email":"y@example.com"}}, partition=1)
    await system.flush()
    for s in sent:
        r = await system.reply(s, timeout_s=100)
    print("orders done", time.time()-t, r.envelope)
    r = await system.reply(v, timeout_s=100); print("victim", r.at-t)

async def test_queries(system: System) -> None:
    w = await system.start("commands"); await furnish(system)
    w = await system.start("queries")
    body = {"kind":"validate_product_data","payload":{"mnemonic":"GUARDED","data":{"n": list(range(300))}}}
    t=time.time()
    sent=[await system.send("queries", body, partition=0) for _ in range(300)]
    v = await system.send("queries", {"kind":"search_customers","payload":{}}, partition=1)
    await system.flush()
    for s in sent:
        r = await system.reply(s, timeout_s=100)
    print("queries done", time.time()-t, r.envelope["data"])
    r = await system.reply(v, timeout_s=100); print("victim", r.at-t)
