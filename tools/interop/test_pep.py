"""Stock clients keep bookmarks and avatars with the server (XEP-0163), and see each other's."""

import asyncio
import base64
import hashlib

from slixmpp.plugins.xep_0402.stanza import Conference

from test_slixmpp import log_in, run
from test_upgrade import upgrade

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
HASH = hashlib.sha1(PICTURE).hexdigest()
BOOKMARKS = "urn:xmpp:bookmarks:1"
METADATA = "urn:xmpp:avatar:metadata"


async def wants(client, *nodes):
    """The client announces that it wants to hear of these nodes, and comes."""
    for plugin in ("xep_0084", "xep_0402", "xep_0115", "xep_0163"):
        client.register_plugin(plugin)
    # A plugin that is there before the login does this by itself.
    found = client.plugin["xep_0084"].session_bind(client.boundjid)
    if asyncio.iscoroutine(found):
        await found
    for node in nodes:
        found = client.plugin["xep_0163"].add_interest(node)
        if found is not None:
            await found
    await client.plugin["xep_0115"].update_caps()
    client.send_presence()


async def hears(queue, what):
    """Waits until a client has heard what it is to hear."""
    while True:
        found = what(await asyncio.wait_for(queue.get(), 30))
        if found is not None:
            return found


def listen(client, event):
    """What comes by an event of slixmpp."""
    queue = asyncio.Queue()
    client.add_event_handler(event, queue.put_nowait)
    return queue


async def befriend(one, other):
    """Each sees the other's presence."""
    for client in (one, other):
        client.auto_authorize = client.auto_subscribe = True
    came = listen(one, "presence_available"), listen(other, "presence_available")
    one.send_presence_subscription(pto=other.boundjid.bare)
    for queue, peer in zip(came, (other, one)):
        await hears(queue, lambda presence: True if presence["from"].bare == peer.boundjid.bare else None)


def test_an_avatar_is_seen_by_a_contact_and_a_bookmark_on_the_second_device(server):
    jids = [server.account(f"{name}pep") for name in ("juliet", "romeo")]

    async def test(clients):
        juliet, romeo = await log_in(clients, server, "starttls", *jids)
        phone, = await log_in(clients, server, "direct-tls", jids[0])
        await befriend(juliet, romeo)
        await wants(romeo, METADATA)
        await wants(phone, METADATA, BOOKMARKS)
        await wants(juliet, METADATA)
        seen = listen(romeo, "avatar_metadata_publish")
        await juliet.plugin["xep_0084"].publish_avatar(PICTURE)
        info = {"id": HASH, "type": "image/png", "bytes": len(PICTURE)}
        await juliet.plugin["xep_0084"].publish_avatar_metadata([info])
        told = await hears(seen, lambda message: message["pubsub_event"]["items"]["item"]["avatar_metadata"])
        assert told["info"]["id"] == HASH
        data = await romeo.plugin["xep_0084"].retrieve_avatar(jids[0], HASH)
        assert data["pubsub"]["items"]["item"]["avatar_data"]["value"] == PICTURE
        romeo.register_plugin("xep_0054")
        card = await romeo.plugin["xep_0054"].get_vcard(jids[0])
        assert card["vcard_temp"]["PHOTO"]["BINVAL"] == PICTURE, "a client that knows vCards alone sees it too"

        heard = listen(phone, "pubsub_publish")
        pubsub = juliet.plugin["xep_0060"]
        conference = Conference()
        conference["name"] = "Verona"
        conference["autojoin"] = True
        options = juliet.plugin["xep_0004"].make_form(ftype="submit")
        options.add_field("FORM_TYPE", ftype="hidden", value="http://jabber.org/protocol/pubsub#publish-options")
        for name, value in (("persist_items", "true"), ("max_items", "max"), ("access_model", "whitelist"),
                            ("send_last_published_item", "never")):
            options.add_field(f"pubsub#{name}", value=value)
        await pubsub.publish(juliet.boundjid.bare, BOOKMARKS, id="verona@muc.example", payload=conference,
                             options=options)
        item = await hears(heard, lambda message: message["pubsub_event"]["items"]
                           if message["pubsub_event"]["items"]["node"] == BOOKMARKS else None)
        assert item["item"]["id"] == "verona@muc.example"
        await upgrade(server)
        phone.register_plugin("xep_0049")
        phone.register_plugin("xep_0048")
        old = await phone.plugin["xep_0048"].get_bookmarks(method="xep_0049")
        rooms = [room["jid"] for room in old["private"]["bookmarks"]["conferences"]]
        assert rooms == ["verona@muc.example"], "the older form has it, after an upgrade"
    run(test)
