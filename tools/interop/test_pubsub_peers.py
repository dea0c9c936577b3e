"""What ejabberd and Prosody answer to requests of XEP-0060 that leave a choice, beside Whimbrel.

docs/protocol.md has the table; this finds out when an answer is another one. The peers are those of Debian 12.
"""

import shutil
import subprocess
from contextlib import contextmanager
from xml.etree import ElementTree as ET

import pytest
from slixmpp.exceptions import IqError

from conftest import DRIVERS, running_server
from test_migration import Elsewhere, ejabberd, prosody
from test_slixmpp import Client, run

PUBSUB = "http://jabber.org/protocol/pubsub"
OWNER = PUBSUB + "#owner"
ERRORS = PUBSUB + "#errors"


def form(kind, **fields):
    inside = "".join(f"<field var='pubsub#{name}'><value>{value}</value></field>" for name, value in fields.items())
    return (f"<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>{PUBSUB}#{kind}</value></field>"
            f"{inside}</x>")


def items(*ids):
    return "".join(f"<item id='{one}'><a xmlns='urn:a'>{one}</a></item>" for one in ids)


def publish(node, *ids, **options):
    conditions = f"<publish-options>{form('publish-options', **options)}</publish-options>" if options else ""
    return f"<publish node='{node}'>{items(*ids)}</publish>{conditions}"


def create(node, **fields):
    return f"<create node='{node}'/><configure>{form('node_config', **fields)}</configure>"


async def ask(client, typ, to, inside, namespace=PUBSUB):
    """The answer in short: `result` with the ids of items, or the conditions of an error."""
    iq = client.make_iq(itype=typ, ito=to)
    iq.xml.append(ET.fromstring(f"<pubsub xmlns='{namespace}'>{inside}</pubsub>"))
    try:
        answer = (await iq.send(timeout=20)).xml
    except IqError as error:
        found = error.iq.xml.find("{jabber:client}error")
        # The condition of the stanza, then that of publish-subscribe: servers differ in how they order them.
        spaces = ("{urn:ietf:params:xml:ns:xmpp-stanzas}", f"{{{ERRORS}}}")
        names = [child.tag.removeprefix(space) for space in spaces for child in found if child.tag.startswith(space)]
        return " ".join(name for name in names if name != "text")
    ids = [item.get("id") for item in answer.iter(f"{{{PUBSUB}}}item")]
    return " ".join(["result"] + (ids if typ == "get" else []))


async def compare(juliet, romeo):
    """What a server answers, by question."""
    said = {}

    async def question(name, client, typ, to, inside, namespace=PUBSUB):
        said[name] = await ask(client, typ, to, inside, namespace)

    own, hers, nobody = None, "juliet@localhost", "nobody@localhost"
    await ask(juliet, "set", own, create("many", access_model="open", max_items="5"))
    for one in ("a", "b", "c"):
        assert await ask(juliet, "set", own, publish("many", one)) == "result"
    await question("all items", juliet, "get", own, "<items node='many'/>")
    await question("the newest two", juliet, "get", own, "<items node='many' max_items='2'/>")
    await question("one id that is there and one that is not", juliet, "get", own,
                   "<items node='many'><item id='b'/><item id='z'/></items>")
    await question("an id that is not there", juliet, "get", own, "<items node='many'><item id='z'/></items>")
    await question("create a node that is there", juliet, "set", own, "<create node='many'/>")
    await question("create with a field that nobody knows", juliet, "set", own, create("odd", nonsense="1"))
    await question("publish with a condition that nobody knows", juliet, "set", own, publish("many", "d", nonsense="1"))
    await question("publish with a condition that is not met", juliet, "set", own,
                   publish("many", "e", access_model="whitelist"))
    await question("publish two items where one is kept", juliet, "set", own, publish("single", "a", "b", max_items="1"))
    await question("publish nothing where items are kept", juliet, "set", own, "<publish node='many'/>")
    await question("publish an item without a payload", juliet, "set", own, "<publish node='many'><item id='f'/></publish>")
    await question("retract an item that is not there", juliet, "set", own, "<retract node='many'><item id='z'/></retract>")
    await question("delete a node that is not there", juliet, "set", own, "<delete node='none'/>", OWNER)
    await question("configure a node that is not there", juliet, "get", own, "<configure node='none'/>", OWNER)
    await question("unsubscribe without a subscription", romeo, "set", hers,
                   "<unsubscribe node='many' jid='romeo@localhost'/>")
    await question("subscribe somebody else", romeo, "set", hers, "<subscribe node='many' jid='paris@localhost'/>")
    await question("publish to the node of somebody else", romeo, "set", hers, publish("many", "g"))
    await question("purge the node of somebody else", romeo, "set", hers, "<purge node='many'/>", OWNER)
    await ask(juliet, "set", own, publish("seen", "a"))
    await question("a stranger, a node for those who see the presence", romeo, "get", hers, "<items node='seen'/>")
    await ask(juliet, "set", own, create("closed", access_model="whitelist"))
    await question("a stranger, a closed node", romeo, "get", hers, "<items node='closed'/>")
    await question("a stranger, a node that is not there", romeo, "get", hers, "<items node='none'/>")
    await question("a stranger, an account that is not there", romeo, "get", nobody, "<items node='none'/>")
    await question("options of a subscription", romeo, "get", hers, "<options node='many' jid='romeo@localhost'/>")
    await question("purge", juliet, "set", own, "<purge node='many'/>", OWNER)
    await question("items of an empty node", juliet, "get", own, "<items node='many'/>")
    return said


def answers(connect):
    said = {}

    async def test(clients):
        for name in ("juliet", "romeo"):
            client = connect(name)
            clients.append(client)
            await client.online()
        said.update(await compare(*clients))

    run(test)
    return said


@contextmanager
def ours(folder):
    with running_server(DRIVERS[0], folder / "data", "--allow-plaintext") as server:
        for name in ("juliet", "romeo", "paris"):
            server.account(name)
        yield lambda name: Client(server, f"{name}@localhost", "starttls")


@contextmanager
def peer(started):
    with started as (port, *_):
        yield lambda name: Elsewhere(port, name)


#: question: Whimbrel, ejabberd 23.01, Prosody 0.12.
TABLE = {
    "all items":
        ("result c b a", "result a b c", "result a b c"),
    "the newest two":
        ("result c b", "result b c", "result b c"),
    "one id that is there and one that is not":
        ("result b", "result b", "result b"),
    "an id that is not there":
        ("result", "result", "result"),
    "create a node that is there":
        ("conflict", "conflict", "conflict"),
    "create with a field that nobody knows":
        ("not-acceptable", "resource-constraint", "result"),
    "publish with a condition that nobody knows":
        ("conflict precondition-not-met", "resource-constraint", "result"),
    "publish with a condition that is not met":
        ("conflict precondition-not-met", "conflict precondition-not-met", "conflict precondition-not-met"),
    "publish two items where one is kept":
        ("not-allowed max-items-exceeded", "bad-request invalid-payload", "result"),
    "publish nothing where items are kept":
        ("bad-request item-required", "bad-request item-required", "bad-request"),
    "publish an item without a payload":
        ("bad-request payload-required", "bad-request item-required", "bad-request"),
    "retract an item that is not there":
        ("item-not-found", "item-not-found", "item-not-found"),
    "delete a node that is not there":
        ("item-not-found", "item-not-found", "item-not-found"),
    "configure a node that is not there":
        ("item-not-found", "item-not-found", "item-not-found"),
    "unsubscribe without a subscription":
        ("unexpected-request not-subscribed", "unexpected-request not-subscribed", "unexpected-request not-subscribed"),
    "subscribe somebody else":
        ("bad-request invalid-jid", "bad-request invalid-jid", "forbidden"),
    "publish to the node of somebody else":
        ("forbidden", "forbidden", "forbidden"),
    "purge the node of somebody else":
        ("item-not-found", "forbidden", "forbidden"),
    "a stranger, a node for those who see the presence":
        ("item-not-found", "not-authorized presence-subscription-required", "forbidden"),
    "a stranger, a closed node":
        ("item-not-found", "not-allowed closed-node", "forbidden"),
    "a stranger, a node that is not there":
        ("item-not-found", "item-not-found", "forbidden"),
    "a stranger, an account that is not there":
        ("item-not-found", "item-not-found", "forbidden"),
    "options of a subscription":
        ("feature-not-implemented unsupported", "feature-not-implemented unsupported", "result"),
    "purge":
        ("result", "result", "result"),
    "items of an empty node":
        ("result", "result", "result"),
}


def version_of(package):
    found = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return found.stdout if found.returncode == 0 else ""


def test_whimbrel_answers_as_the_table_says(tmp_path):
    with ours(tmp_path) as connect:
        assert answers(connect) == {question: row[0] for question, row in TABLE.items()}


def test_ejabberd_answers_as_the_table_says(tmp_path):
    if not version_of("ejabberd").startswith("23.01") or shutil.which("erl") is None:
        pytest.skip("the table is of ejabberd 23.01")
    with peer(ejabberd(tmp_path, ", mod_caps: {}, mod_pubsub: {plugins: [flat, pep]}")) as connect:
        assert answers(connect) == {question: row[1] for question, row in TABLE.items()}


def test_prosody_answers_as_the_table_says():
    if not version_of("prosody").startswith("0.12"):
        pytest.skip("the table is of Prosody 0.12")
    with peer(prosody(', "pep"')) as connect:
        assert answers(connect) == {question: row[2] for question, row in TABLE.items()}
