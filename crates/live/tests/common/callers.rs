//! Callers on the harness, whose calls have ids of the test's own, and their replies as they came.

use std::collections::HashMap;
use std::time::Duration;

use millstream_live::testing::{ClientId, Testbed};
use millstream_live::{Builder, Caller, Handled, Live};
use serde_json::Value;

/// An application, everybody who calls it, and the replies that came.
pub(crate) struct Callers<S> {
    pub(crate) bed: Testbed<S, String>,
    pub(crate) live: Live<S, String>,
    clients: HashMap<Who, ClientId>,
    /// In the order of connecting, each with the number of its frames that were looked at.
    seen: Vec<(ClientId, usize)>,
    replies: Vec<(String, Value)>,
}

/// Somebody on the connection of a number, which is there when it is used first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Who(u32, Option<String>);

pub(crate) fn caller(number: u32, user: Option<&str>) -> Who {
    Who(number, user.map(str::to_owned))
}

impl<S: Send + Sync + 'static> Callers<S> {
    pub(crate) fn new(builder: Builder<S, String>) -> Self {
        let bed = Testbed::new(builder.build().unwrap());
        Self {
            live: bed.live(),
            bed,
            clients: HashMap::new(),
            seen: Vec::new(),
            replies: Vec::new(),
        }
    }

    fn client(&mut self, who: &Who) -> ClientId {
        if let Some(client) = self.clients.get(who) {
            return *client;
        }
        let client = match &who.1 {
            Some(user) => self.bed.connect(user.clone()),
            None => self.bed.connect_unknown(),
        };
        self.clients.insert(who.clone(), client);
        self.seen.push((client, 0));
        client
    }

    /// Sends a call with further members.
    pub(crate) fn send(&mut self, who: &Who, path: &str, id: &str, rest: &str) {
        let client = self.client(who);
        let frame = format!(r#"{{"rpc":"{path}","id":"{id}"{rest}}}"#);
        self.bed.send_text(client, &frame);
        self.collect();
    }

    /// Sends a call and gives its reply, which has to be there at once.
    pub(crate) fn ask(&mut self, who: &Who, path: &str, rest: &str) -> Value {
        self.send(who, path, "asked", rest);
        let (id, reply) = self.replies.pop().expect("answered at once");
        assert_eq!(id, "asked", "answered at once");
        reply
    }

    /// Calls on nobody's behalf.
    pub(crate) fn ask_as_nobody(&mut self, path: &str, rest: &str) -> Value {
        let frame = format!(r#"{{"rpc":"{path}","id":"asked"{rest}}}"#);
        let handled = self.live.handle_text(&Caller::nobody(), &frame);
        let Handled::Claimed(running) = handled else {
            panic!("no call: {frame}");
        };
        let reply = self.bed.run(running).unwrap();
        serde_json::from_str(reply.data.as_str()).unwrap()
    }

    fn collect(&mut self) {
        for (client, seen) in &mut self.seen {
            for frame in self.bed.frames(*client).skip(*seen) {
                *seen += 1;
                let frame: Value = serde_json::from_str(frame).unwrap();
                if frame["topic"] == "__rpc" {
                    let id = frame["event"].as_str().unwrap().to_owned();
                    self.replies.push((id, frame["data"].clone()));
                }
            }
        }
    }

    pub(crate) fn advance(&mut self, millis: u64) {
        self.bed.advance(Duration::from_millis(millis));
        self.collect();
    }

    /// Drops a call that is not answered.
    pub(crate) fn drop_call(&mut self, who: &Who, id: &str) {
        let client = self.client(who);
        self.bed.drop_call((client, id));
        self.collect();
    }

    pub(crate) fn close(&mut self, who: &Who) {
        self.bed.disconnect(self.clients[who]);
        self.collect();
    }

    /// The ids that were answered since, each with its code or `ok`.
    pub(crate) fn take(&mut self) -> Vec<String> {
        let replies = std::mem::take(&mut self.replies);
        let line = |(id, reply): &(String, Value)| format!("{id} {}", outcome(reply));
        replies.iter().map(line).collect()
    }
}

/// The code of a reply, or `ok`.
pub(crate) fn outcome(reply: &Value) -> &str {
    if reply["ok"] == true {
        "ok"
    } else {
        reply["code"].as_str().unwrap_or("no reply")
    }
}
