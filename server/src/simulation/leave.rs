//! How clients go, politely or not, and how they come to rest.

use super::client::Stage;
use super::oracle;
use super::tls::End;
use super::world::{World, bare};
use crate::xml::writer;

/// The number of a message that nobody sends: no world gets so far.
const FORGED: u32 = u32::MAX;

impl World {
    /// The client's session is over; it stays connected until the server has closed.
    pub(super) fn part(&mut self, index: usize, cut: bool) {
        let client = &mut self.clients[index];
        client.stage = Stage::Leaving;
        if let Some(live) = client.live.take() {
            self.oracle.end(self.step, live.id, cut);
            self.rooms.over(live.id);
        }
    }

    /// The client goes, politely or not.
    pub(super) fn leave_somehow(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if matches!(client.stage, Stage::Away | Stage::Ghost) {
            return;
        }
        let Some(link) = client.link else { return };
        client.deaf = false;
        self.network.remind(client.number, link);
        if client.tls.is_some() && self.random.permille(650) {
            return self.break_tls(index);
        }
        let pause = self.random.below(3000) as u64;
        match self.random.below(10) {
            0..5 => {
                if client.stage != Stage::Leaving {
                    client.say("</stream:stream>");
                }
                self.part(index, false);
            }
            5 | 6 => {
                client.end_after = true;
                self.part(index, false);
            }
            7 | 8 => {
                self.part(index, true);
                self.network.client_close(link, true);
                self.clients[index].away(self.now.after(pause));
            }
            _ => {
                self.part(index, true);
                self.clients[index].stage = Stage::Ghost;
            }
        }
        self.flush(index);
    }

    /// The client ends TLS without a closed stream, in order or not, behind some messages in the same packet.
    fn break_tls(&mut self, index: usize) {
        if self.clients[index].stage == Stage::Online {
            for _ in 0..self.random.below(4) {
                self.message(index);
            }
        }
        let whole = self.end_tls(index);
        let client = &mut self.clients[index];
        client.end_after |= self.random.permille(400);
        self.part(index, !whole);
        if !whole {
            self.was_cut(index);
        }
        self.flush(index);
    }

    /// Ends TLS as chance decides. Returns whether all that was said comes before the end, so that it counts.
    pub(super) fn end_tls(&mut self, index: usize) -> bool {
        let end = self.random.pick(&End::ALL).copied().expect("there are some");
        // If it were believed, somebody would hear what nobody has sent.
        let to = bare(self.random.below(self.settings.users));
        let body = oracle::body(FORGED - self.random.below(23) as u32);
        let mut text = Vec::new();
        writer::escape_text(&body, &mut text);
        let text = String::from_utf8(text).expect("escaping keeps UTF-8");
        let forged = format!("<message type='chat' to='{to}'><body>{text}</body></message>");
        let said = self.clients[index].out.clone();
        let whole = self.clients[index].end_tls(end, &forged);
        self.watch(index, "->", &said);
        self.watch(index, "->", format!("(ends TLS: {end:?})").as_bytes());
        self.report.tls_ends[end as usize] += 1;
        whole
    }

    /// Everybody listens and is active, so that what is owed to them can reach them.
    pub(super) fn calm_clients(&mut self) {
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            let Some(link) = client.link else { continue };
            if std::mem::take(&mut client.deaf) {
                self.network.remind(client.number, link);
            }
            if client.stage == Stage::Online
                && let Some(live) = &mut client.live
                && std::mem::take(&mut live.inactive)
            {
                client.say("<active xmlns='urn:xmpp:csi:0'/>");
            }
            self.flush(index);
        }
    }
}
