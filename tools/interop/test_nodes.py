"""A stock client uses the nodes of the publish-subscribe service (XEP-0060): disco, subscribe, publish, retrieve, retract, lists."""

import asyncio
import json

import pytest
from slixmpp import register_stanza_plugin
from slixmpp.exceptions import IqError
from slixmpp.plugins.xep_0060.stanza import EventItem, Item
from slixmpp.xmlstream import ElementBase

from test_slixmpp import log_in, run
from test_upgrade import upgrade

SERVICE = "pubsub.localhost"
NODES = "http://jabber.org/protocol/pubsub"


class News(ElementBase):
    """Something that is published."""

    namespace = "urn:example:news"
    name = plugin_attrib = "news"
    interfaces = {"text"}

    def get_text(self):
        return self.xml.text

    def set_text(self, text):
        self.xml.text = text


register_stanza_plugin(Item, News)
register_stanza_plugin(EventItem, News)


def news(text):
    payload = News()
    payload["text"] = text
    return payload


def listen(client, event):
    """What comes by an event of slixmpp."""
    queue = asyncio.Queue()
    client.add_event_handler(event, queue.put_nowait)
    return queue


async def hear(queue, node):
    async with asyncio.timeout(30):
        while True:
            message = await queue.get()
            if message["pubsub_event"]["items"]["node"] == node:
                return message


def ids(answer):
    return [item["id"] for item in answer["pubsub"]["items"]["substanzas"]]


def test_a_stock_client_subscribes_publishes_and_retrieves(server):
    jids = [server.account(f"{name}nodes") for name in ("juliet", "romeo")]
    server.ctl("node", "create", "news", "--owner", jids[0], "title=News of Verona")

    async def test(clients):
        juliet, = await log_in(clients, server, "starttls", jids[0])
        romeo, = await log_in(clients, server, "direct-tls", jids[1])
        for client in (juliet, romeo):
            for plugin in ("xep_0004", "xep_0030", "xep_0060"):
                client.register_plugin(plugin)
        hers, his = (client.plugin["xep_0060"] for client in (juliet, romeo))

        items = await romeo.plugin["xep_0030"].get_items(jid="localhost")
        assert SERVICE in {item[0] for item in items["disco_items"]["items"]}
        info = await romeo.plugin["xep_0030"].get_info(jid=SERVICE)
        assert ("pubsub", "service") in {identity[:2] for identity in info["disco_info"]["identities"]}
        assert f"{NODES}#subscribe" in info["disco_info"]["features"]
        found = await his.get_nodes(SERVICE)
        assert {"news"} <= {item[1] for item in found["disco_items"]["items"]}
        about = await romeo.plugin["xep_0030"].get_info(jid=SERVICE, node="news")
        assert ("pubsub", "leaf") in {identity[:2] for identity in about["disco_info"]["identities"]}

        heard, retracted = listen(romeo, "pubsub_publish"), listen(romeo, "pubsub_retract")
        granted = await his.subscribe(SERVICE, "news")
        assert granted["pubsub"]["subscription"]["subscription"] == "subscribed"
        await hers.publish(SERVICE, "news", id="one", payload=news("a feud"))
        message = await hear(heard, "news")
        item = message["pubsub_event"]["items"]["item"]
        assert (message["type"], item["id"], item["news"]["text"]) == ("headline", "one", "a feud")
        await hers.publish(SERVICE, "news", id="two", payload=news("a wedding"))
        await hear(heard, "news")
        assert ids(await his.get_items(SERVICE, "news")) == ["two", "one"]
        assert ids(await his.get_items(SERVICE, "news", max_items=1)) == ["two"]
        with pytest.raises(IqError) as refused:
            await his.publish(SERVICE, "news", id="three", payload=news("gossip"))
        assert refused.value.condition == "forbidden"

        own = await his.get_subscriptions(SERVICE)
        assert {row["node"] for row in own["pubsub"]["subscriptions"]["substanzas"]} == {"news"}
        all_of_it = await hers.get_node_subscriptions(SERVICE, "news")
        assert {row["jid"].bare for row in all_of_it["pubsub_owner"]["subscriptions"]["substanzas"]} == {jids[1]}
        await hers.modify_affiliations(SERVICE, "news", affiliations=[(jids[1], "publisher")])
        await his.publish(SERVICE, "news", id="three", payload=news("gossip"))
        await hear(heard, "news")
        await hers.retract(SERVICE, "news", "three", notify=True)
        await hear(retracted, "news")

        form = await hers.get_node_config(SERVICE, "news")
        config = form["pubsub_owner"]["configure"]["form"]
        assert config.get_values()["pubsub#title"] == "News of Verona"
        answer = hers.xmpp.plugin["xep_0004"].make_form(ftype="submit")
        answer.add_field("FORM_TYPE", ftype="hidden", value=f"{NODES}#node_config")
        answer.add_field("pubsub#title", value="Late news")
        await hers.set_node_config(SERVICE, "news", answer)

        await upgrade(server)
        await hers.publish(SERVICE, "news", id="four", payload=news("a duel"))
        message = await hear(heard, "news")
        assert message["pubsub_event"]["items"]["item"]["news"]["text"] == "a duel", "subscribed as before an upgrade"
        await his.unsubscribe(SERVICE, "news")
        await hers.purge(SERVICE, "news")
        assert ids(await his.get_items(SERVICE, "news")) == []
        await hers.delete_node(SERVICE, "news")
        with pytest.raises(IqError) as gone:
            await his.get_items(SERVICE, "news")
        assert gone.value.condition == "item-not-found"
    run(test)
    assert json.loads(server.ctl("--json", "node", "list").stdout)["nodes"] == []
