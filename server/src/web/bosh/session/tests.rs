use super::*;
use crate::web::bosh::body::Bounds;
use crate::web::bosh::terms::VERSION;
use crate::xml::Element;

const RULES: Rules =
    Rules { wait_seconds_max: 60, inactivity_seconds: 30, pause_seconds_max: 120, polling_seconds: 2 };

const BIND: &str = "http://jabber.org/protocol/httpbind";

/// A session and its client, whose requests are told apart by their numbers.
struct World {
    session: Session<u64>,
    now_ms: u64,
}

fn request(attributes: &str, payload: &str) -> Request {
    let text = format!("<body {attributes} xmlns='{BIND}' xmlns:xmpp='urn:xmpp:xbosh'>{payload}</body>");
    Request::read(text.as_bytes(), Bounds { depth_max: 20 }).expect("a request")
}

impl World {
    /// Begins with request 10.
    fn begin(attributes: &str) -> World {
        let attributes = format!("rid='10' to='d' xmpp:version='1.0' {attributes}");
        let session = Session::begin("s", request(&attributes, ""), 10, &RULES, 0);
        World { session, now_ms: 0 }
    }

    /// One whose first request is answered.
    fn ready(attributes: &str) -> World {
        let mut world = World::begin(attributes);
        world.session.said(Said::Open { from: Some("d".into()), id: Some("i".into()) }, "", 0);
        world.say("<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>");
        assert_eq!(world.answers().len(), 1);
        world.worker_takes();
        world
    }

    /// The worker takes what there is for it.
    fn worker_takes(&mut self) -> Vec<u8> {
        let taken = std::mem::take(self.session.to_worker());
        self.session.advance(self.now_ms);
        taken
    }

    fn say(&mut self, element: &str) {
        self.session.said(Said::Element(element.into()), "", self.now_ms);
        self.session.settle(self.now_ms);
    }

    fn ask(&mut self, rid: u64, attributes: &str, payload: &str) {
        let request = request(&format!("rid='{rid}' sid='s' {attributes}"), payload);
        self.session.request(request, rid, self.now_ms);
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.session.tick(self.now_ms);
    }

    /// Which requests were answered, and how.
    fn replies(&mut self) -> Vec<(u64, Reply)> {
        self.session.take_replies()
    }

    fn answers(&mut self) -> Vec<(u64, Element)> {
        let body = |reply| match reply {
            Reply::Body(body) => Element::parse(&body).expect("an element"),
            Reply::Later => panic!("sent back"),
        };
        self.replies().into_iter().map(|(rid, reply)| (rid, body(reply))).collect()
    }

    /// Requests that were answered with nothing in particular.
    fn empty(&mut self) -> Vec<u64> {
        let answers = self.answers();
        let is_empty = |body: &Element| body.attribute("type").is_none() && body.elements().count() == 0;
        assert!(answers.iter().all(|(_, body)| is_empty(body)), "{answers:?}");
        answers.into_iter().map(|(rid, _)| rid).collect()
    }

    /// Requests that were answered with the end of the session, and its condition.
    fn ends(&mut self) -> Vec<(u64, Option<String>)> {
        let answers = self.answers();
        assert!(answers.iter().all(|(_, body)| body.attribute("type") == Some("terminate")), "{answers:?}");
        let condition = |body: &Element| body.attribute("condition").map(str::to_owned);
        answers.into_iter().map(|(rid, body)| (rid, condition(&body))).collect()
    }
}

fn end(rid: u64, condition: &str) -> (u64, Option<String>) {
    (rid, Some(condition.to_owned()))
}

/// §7, XEP-0206 §3.
#[test]
fn the_first_answer_says_what_is_agreed_on_and_has_the_features() {
    let mut world = World::begin("wait='600' hold='1' ver='1.6' secure='true'");
    assert!(world.answers().is_empty());
    world.session.said(Said::Open { from: Some("d".into()), id: Some("i".into()) }, "", 0);
    world.session.settle(0);
    assert!(world.answers().is_empty(), "the features are to come with it");
    world.say("<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>");
    let [(10, body)] = &world.answers()[..] else { panic!("one answer") };
    let expected = [
        ("sid", "s"),
        ("wait", "60"),
        ("requests", "2"),
        ("hold", "1"),
        ("inactivity", "30"),
        ("maxpause", "120"),
        ("ver", "1.6"),
        ("ack", "10"),
        ("secure", "true"),
        ("from", "d"),
        ("authid", "i"),
    ];
    for (name, value) in expected {
        assert_eq!(body.attribute(name), Some(value), "{name}");
    }
    assert_eq!(body.attribute("polling"), None);
    assert_eq!(body.attribute_ns("version", "urn:xmpp:xbosh"), Some("1.0"));
    assert_eq!(body.attribute_ns("restartlogic", "urn:xmpp:xbosh"), Some("true"));
    assert!(body.find("features", "http://etherx.jabber.org/streams").is_some());
}

#[test]
fn a_worker_that_says_nothing_keeps_nobody_waiting_for_terms() {
    for attributes in ["wait='0'", "hold='0'"] {
        let mut world = World::begin(attributes);
        if attributes == "wait='0'" {
            assert_eq!(world.session.due_ms(), Some(FEATURES_MS));
            world.pass(FEATURES_MS);
        } else {
            world.pass(60_000);
        }
        let answers = world.answers();
        assert_eq!(answers[0].1.attribute("polling"), Some("2"), "{attributes}");
    }
    let newer = World::begin("ver='9.9' hold='9'").session.terms;
    assert_eq!((newer.ver, newer.hold, newer.requests()), (VERSION, 2, 3));
}

/// §7.1, §8.
#[test]
fn a_request_is_held_until_there_is_something_or_its_time_is_up() {
    let mut world = World::ready("hold='1' wait='20'");
    world.ask(11, "", "");
    world.pass(19_999);
    assert!(world.answers().is_empty());
    world.pass(1);
    assert_eq!(world.empty(), [11]);
    world.ask(12, "", "");
    world.say("<message xmlns='jabber:client'/>");
    let answers = world.answers();
    assert_eq!((answers[0].0, answers[0].1.elements().count()), (12, 1));
    // What comes while nothing is held, waits.
    world.say("<message xmlns='jabber:client' id='a'/>");
    world.say("<message xmlns='jabber:client' id='b'/>");
    world.ask(13, "", "");
    let answers = world.answers();
    assert_eq!((answers[0].0, answers[0].1.elements().count()), (13, 2));
}

/// §8: a client that has something to say is not kept from it by the request that is held.
#[test]
fn a_further_request_lets_the_held_one_go() {
    let mut world = World::ready("hold='1'");
    world.ask(11, "", "");
    world.ask(12, "", "<iq type='get' id='1' xmlns='jabber:client'/>");
    let answers = world.answers();
    assert_eq!((answers[0].0, answers[0].1.attribute("ack")), (11, Some("12")), "§9.1");
    assert_eq!(answers.len(), 1);
    world.say("<iq xmlns='jabber:client'/>");
    let answers = world.answers();
    assert_eq!((answers[0].0, answers[0].1.attribute("ack")), (12, None), "§9.1: it says so itself");
}

/// §14.2.
#[test]
fn requests_take_effect_in_their_order() {
    let mut world = World::ready("hold='1'");
    world.ask(12, "", "<b xmlns='u'/>");
    assert!(world.answers().is_empty() && world.session.to_worker().is_empty());
    world.ask(11, "", "<a xmlns='u'/>");
    let first = world.worker_takes();
    let second = world.worker_takes();
    assert!(first.ends_with(b"<a xmlns='u'/>") && second.ends_with(b"<b xmlns='u'/>"));
    assert_eq!(world.empty(), [11]);
}

#[test]
fn a_worker_that_does_not_read_slows_its_client() {
    let mut world = World::ready("hold='1'");
    world.ask(11, "", "<a xmlns='u'/>");
    world.ask(12, "", "<b xmlns='u'/>");
    assert!(world.answers().is_empty(), "the second is not taken");
    assert_eq!(world.session.received, 11);
    world.worker_takes();
    assert_eq!((world.session.received, world.empty()), (12, vec![11]));
}

/// §14.2: and nothing of the session is left.
#[test]
fn a_number_outside_of_the_window_ends_the_session() {
    let mut world = World::ready("hold='1'");
    world.ask(11, "", "");
    world.ask(13, "", "");
    world.ask(14, "", "");
    assert_eq!(world.ends(), [end(14, "item-not-found"), end(11, "other-request"), end(13, "other-request")]);
    assert!(world.session.is_gone());
    assert_eq!(world.session.take_counts().broken, 1);
}

/// §14.3.
#[test]
fn a_repeated_request_gets_the_same_answer_and_has_no_effect() {
    let mut world = World::ready("hold='1'");
    world.ask(11, "", "<a xmlns='u'/>");
    world.worker_takes();
    world.say("<message xmlns='jabber:client'/>");
    let first = world.replies();
    world.ask(11, "", "<a xmlns='u'/>");
    assert_eq!(world.replies(), first);
    assert!(world.session.to_worker().is_empty());
    // One that is held: the connection of the older is given up.
    world.ask(12, "", "");
    world.ask(12, "", "");
    assert_eq!(world.replies(), [(12, Reply::Later)]);
    world.pass(60_000);
    assert_eq!(world.empty(), [12]);
    assert_eq!(world.session.take_counts().repeated, 2);
    // One that waits for another.
    world.ask(14, "", "");
    world.ask(14, "", "");
    assert_eq!(world.replies(), [(14, Reply::Later)]);
}

#[test]
fn as_many_answers_are_kept_as_there_are_requests() {
    let mut world = World::ready("hold='1'");
    for rid in 11..=13 {
        world.ask(rid, "", "");
        world.pass(60_000);
    }
    assert_eq!(world.empty(), [11, 12, 13]);
    world.ask(12, "", "");
    assert_eq!(world.empty(), [12]);
    world.ask(11, "", "");
    assert_eq!(world.ends(), [end(11, "item-not-found")]);
}

/// §9.2.
#[test]
fn acknowledged_answers_are_forgotten() {
    let mut world = World::ready("hold='1' ack='1'");
    world.ask(11, "ack='10'", "");
    world.say("<message xmlns='jabber:client'/>");
    assert_eq!(world.session.answered.len(), 1);
    world.ask(12, "ack='11'", "");
    assert!(world.session.answered.is_empty());
    assert_eq!(world.session.bytes_for_client(), 0);
}

/// §12.
#[test]
fn a_client_that_polls_too_often_is_ended() {
    let mut world = World::ready("hold='0'");
    world.pass(2_000);
    world.ask(11, "", "");
    assert_eq!(world.empty(), [11]);
    world.pass(1_999);
    // One with something to say may come at any time.
    world.ask(12, "", "<a xmlns='u'/>");
    world.worker_takes();
    world.ask(13, "", "");
    assert_eq!(world.empty(), [12, 13]);
    world.pass(2_000);
    world.ask(14, "", "");
    world.pass(1_999);
    assert_eq!(world.empty(), [14]);
    world.ask(15, "", "");
    assert_eq!(world.ends(), [end(15, "policy-violation")]);
}

/// §10.
#[test]
fn a_client_may_be_away_as_long_as_it_says() {
    let mut world = World::ready("hold='1'");
    world.ask(11, "", "");
    world.ask(12, "pause='90'", "");
    assert_eq!(world.empty(), [11, 12]);
    world.pass(89_999);
    assert!(!world.session.is_gone());
    world.ask(13, "", "");
    world.pass(60_000);
    assert_eq!(world.empty(), [13]);
    world.pass(30_000);
    assert!(world.session.is_gone(), "the next time it is as without");
    let mut long = World::ready("hold='1'");
    long.ask(11, "pause='9999'", "");
    long.pass(120_000);
    assert!(long.session.is_gone(), "and no longer than is agreed on");
}

/// §10.
#[test]
fn a_client_that_is_away_for_too_long_has_no_session() {
    let mut world = World::ready("hold='1'");
    assert_eq!(world.session.due_ms(), Some(30_000));
    world.ask(12, "", "");
    world.pass(29_999);
    assert!(!world.session.is_gone());
    world.pass(1);
    assert!(world.session.is_gone());
    assert_eq!(world.ends(), [end(12, "item-not-found")], "one that waits for another is nothing");
    assert_eq!(world.session.take_counts().inactive, 1);
}

/// §15.
#[test]
fn a_sequence_of_keys_lets_nobody_else_in() {
    let mut keys = vec!["seed".to_owned()];
    for n in 0..4 {
        keys.push(hash(&keys[n]));
    }
    let first = format!("hold='1' newkey='{}'", keys[4]);
    let key = |n: usize| format!("key='{}'", keys[n]);
    let mut world = World::ready(&first);
    world.ask(11, &key(3), "");
    world.ask(12, &format!("{} newkey='{}'", key(2), hash("other")), "");
    assert_eq!(world.empty(), [11]);
    // A repeated request has the same key.
    world.ask(11, &key(3), "");
    assert_eq!(world.empty(), [11]);
    let other = "f".repeat(40);
    for wrong in [String::new(), format!("key='{other}'"), key(1)] {
        let mut world = World::ready(&first);
        world.ask(11, &key(3), "");
        world.ask(12, &wrong, "<a xmlns='u'/>");
        assert_eq!(world.ends(), [end(12, "item-not-found"), end(11, "other-request")], "{wrong}");
        assert!(world.session.to_worker().is_empty(), "it has no effect");
    }
    let mut world = World::ready(&first);
    world.ask(11, &key(3), "");
    world.ask(11, "", "");
    assert_eq!(world.ends(), [end(11, "item-not-found"), end(11, "other-request")]);
}

/// The example of §15: the digits of a key are those of SHA-1.
#[test]
fn keys_are_hashed_as_others_do_it() {
    assert_eq!(hash("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
}

/// §13.
#[test]
fn a_client_that_goes_gets_what_there_is() {
    let mut world = World::ready("hold='1'");
    world.ask(11, "", "");
    world.ask(12, "type='terminate'", "<presence type='unavailable' xmlns='jabber:client'/>");
    let answers = world.answers();
    assert_eq!((answers[0].0, answers[0].1.attribute("type")), (11, None));
    assert_eq!((answers[1].0, answers[1].1.attribute("type")), (12, Some("terminate")));
    assert_eq!(answers[1].1.attribute("condition"), None);
    let taken = String::from_utf8_lossy(&world.worker_takes()).into_owned();
    assert!(taken.contains("unavailable") && taken.contains("<close "), "{taken}");
    world.pass(OVER_MS);
    assert!(world.session.is_gone());
}

#[test]
fn the_end_of_a_stream_comes_behind_its_elements() {
    let mut world = World::ready("hold='1'");
    world.say("<message xmlns='jabber:client'/>");
    world.say(
        "<stream:error xmlns:stream='http://etherx.jabber.org/streams'><system-shutdown \
         xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
    );
    world.session.said(Said::Close, "", 0);
    world.session.lost(0);
    world.ask(11, "", "");
    let answers = world.answers();
    assert_eq!((answers[0].1.attribute("type"), answers[0].1.elements().count()), (None, 1));
    world.ask(12, "", "");
    assert_eq!(world.ends(), [end(12, "system-shutdown")]);
    world.pass(OVER_MS);
    assert!(world.session.is_gone());
}

#[test]
fn a_request_that_is_held_hears_of_the_end_at_once() {
    let mut world = World::ready("hold='1'");
    world.ask(11, "", "");
    world.session.lost(0);
    world.session.settle(0);
    assert_eq!(world.ends(), [end(11, "remote-connection-failed")]);
    let mut world = World::begin("hold='1'");
    world.session.said(Said::Dropped(1013), "", 0);
    world.session.settle(0);
    assert_eq!(world.ends(), [end(10, "policy-violation")], "a limit of connections");
}

/// XEP-0206 §5.
#[test]
fn a_stream_begins_anew() {
    let mut world = World::ready("hold='1' xml:lang='en'");
    world.ask(11, "xmpp:restart='true' to='d'", "<ignored xmlns='u'/>");
    let taken = String::from_utf8_lossy(&world.worker_takes()).into_owned();
    assert!(
        taken.contains("<open ") && taken.contains("to='d'") && taken.contains("xml:lang='en'"),
        "{taken}"
    );
    assert!(!taken.contains("ignored"));
    world.session.said(Said::Open { from: None, id: Some("j".into()) }, "", 0);
    world.say("<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>");
    let answers = world.answers();
    assert_eq!(answers[0].1.attribute("sid"), None, "it is the same session");
}

#[test]
fn an_answer_is_not_longer_than_its_bound() {
    let mut world = World::ready("hold='1'");
    let element = format!("<a xmlns='u'>{}</a>", "x".repeat(ANSWER_BYTES / 2));
    for _ in 0..3 {
        world.say(&element);
    }
    world.ask(11, "", "");
    world.ask(12, "", "");
    world.ask(13, "", "");
    let counts: Vec<_> = world.answers().iter().map(|(_, body)| body.elements().count()).collect();
    assert_eq!(counts, [1, 1, 1]);
}

#[test]
fn before_an_upgrade_everybody_is_answered() {
    let mut world = World::ready("hold='1'");
    world.ask(11, "", "");
    world.ask(13, "", "");
    world.session.send_back();
    assert_eq!(world.replies(), [(13, Reply::Later)]);
    world.session.release(0);
    assert_eq!(world.empty(), [11]);
    assert_eq!(world.session.received, 11, "what was sent back was not taken");
}
