//! From the first byte to a bound resource.

use crate::support::{Client, on_each_driver};

#[test]
fn two_clients_on_different_workers_log_in_and_talk() {
    on_each_driver(|server| {
        let (juliet, romeo) = (server.name_at_home_on(0, "juliet"), server.name_at_home_on(1, "romeo"));
        server.accounts(&[&juliet, &romeo]);
        let mut j = server.online(&juliet, "balcony");
        let mut r = server.online(&romeo, "orchard");
        r.send(&format!("<message to='{juliet}@localhost' type='chat' id='m1'><body>hi</body></message>"));
        let message = j.expect("message");
        assert_eq!(message.attribute("from"), Some(r.jid.as_str()));
        assert_eq!(
            message.find("body", "jabber:client").map(|body| body.content().into_owned()),
            Some("hi".into())
        );
        j.send(&format!("<message to='{}' type='chat' id='m2'><body>yes</body></message>", r.jid));
        assert_eq!(r.expect("message").attribute("id"), Some("m2"));
    });
}

#[test]
fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut answers = Vec::new();
        for (name, password) in [("juliet", "wrong"), ("nobody", "wrong")] {
            let mut client = Client::connect(server.address());
            client.open_stream("localhost");
            answers.push(client.authenticate_plain(name, password));
        }
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0].name(), "failure");
    });
}
