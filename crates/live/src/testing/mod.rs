//! A server for tests: without sockets, threads and clocks, with clients that speak real frames.
//!
//! A [`Testbed`] runs an application on the same hubs and through the same pipeline as the server,
//! on virtual time and in one thread. Its clients write the frames that svelte-realtime writes,
//! read what comes back with the decoder of `millstream-wire`, and fold events with
//! `millstream-merge`. Only the TCP connection is missing.
//!
//! ```
//! use millstream_live::testing::{Testbed, assert_denied};
//! use millstream_live::{App, Ctx, LiveError, Module, Stream};
//! use parking_lot::Mutex;
//! use serde_json::{Value, json};
//!
//! #[derive(Default)]
//! struct Todo(Mutex<Vec<Value>>);
//! type Cx = Ctx<Todo, String>;
//!
//! async fn add(ctx: Cx, text: String) -> Result<u64, LiveError> {
//!     let id = ctx.state().0.lock().len() as u64;
//!     let item = json!({"id": id, "text": text, "by": ctx.require_user()?});
//!     ctx.state().0.lock().push(item.clone());
//!     ctx.publish("todo", "created", &item)?;
//!     Ok(id)
//! }
//!
//! async fn items(ctx: Cx) -> Result<Vec<Value>, LiveError> {
//!     Ok(ctx.state().0.lock().clone())
//! }
//!
//! let todo = Module::new("todo")
//!     .call("add", add)
//!     .stream("items", Stream::fixed("todo").load(items));
//! let app = App::new(Todo::default()).module(todo).build()?;
//!
//! let mut t = Testbed::new(app);
//! let ada = t.connect("ada".to_owned());
//! let bob = t.connect("bob".to_owned());
//! let list = t.subscribe(bob, "todo/items", ());
//! assert_eq!(t.value(list), json!([]));
//!
//! assert_eq!(t.call(ada, "todo/add", ("milk",)), Ok(json!(0)));
//! assert_eq!(t.value(list), json!([{"id": 0, "text": "milk", "by": "ada"}]));
//!
//! // Bob loses his connection, misses an event, comes back and sees what is there.
//! t.disconnect(bob);
//! t.call(ada, "todo/add", ("bread",))?;
//! t.reconnect(bob);
//! assert_eq!(t.value(list)[1]["text"], "bread");
//!
//! let nobody = t.connect_unknown();
//! assert_denied(t.call(nobody, "todo/add", ("eggs",)), "UNAUTHENTICATED");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Time
//!
//! Time stands still until [`advance`](Testbed::advance); everything that can happen without time
//! passing happens before a method returns. A [`call`](Testbed::call) lets as much time pass as
//! the function sleeps, up to the client's limit of 30 s. Functions wait with
//! [`Platform::sleep`](crate::Platform::sleep); a runtime's timers do not work here.
//!
//! # What goes wrong
//!
//! [`disconnect`](Testbed::disconnect) loses what is under way,
//! [`stop_reading`](Testbed::stop_reading) makes a slow reader, [`stall`](Testbed::stall) a busy
//! worker, [`refuse_publishes`](Testbed::refuse_publishes) a server that is too far behind,
//! [`drop_call`](Testbed::drop_call) ends a call where it waits, [`restart`](Testbed::restart)
//! replaces the server (the application's state stays, as a database does). [`Chaos`] adds
//! latency, busy workers and another order of turns. All random choices follow from
//! [`Settings::seed`]; a test that fails prints it with the last steps.
//!
//! # How clients fold
//!
//! As svelte-realtime 0.5.12 does outside of browsers: each event at once. Two of its habits
//! matter:
//!
//! - A stream that begins to listen to a topic which its client hears already is handed the newest
//!   event again ([`Settings::hand_over`]): a copy in a `latest` stream.
//! - What arrives between a request and its reply is lost to that stream. The server holds events
//!   back until the reply, but only if the connection does not hear the topic yet: so this
//!   concerns a second stream of one client on one topic, and one that asks again before the
//!   first reply has come.
//!
//! # Limits
//!
//! | limit | value | at the limit |
//! |---|---|---|
//! | frames of a client, events of a stream, publishes | 10,000 each | the oldest are forgotten |
//! | steps without time passing | 1,000,000 | panic: something goes round in circles |
//! | bytes kept aside while reading is paused | none | the server's limit is 64 MiB |
//! | tasks in a worker's inbox | 65,536 | publishes are refused, as by the server |

mod calls;
mod client;
mod exec;
mod faults;
mod host;
mod identity;
mod outcome;
mod pipe;
mod platform;
mod record;
mod running;
mod settings;
mod stream;
mod testbed;
mod trace;
mod uploads;

pub use faults::Request;
pub use outcome::{CallError, Outcome, assert_denied};
pub use record::{Behind, PublishedEvent};
pub use settings::{Chaos, Settings};
pub use stream::Status;
pub use testbed::{CallId, ClientId, Reported, StreamId, Testbed};
pub use uploads::UploadId;
