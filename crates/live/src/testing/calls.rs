//! Calls of clients, one by one, with bytes, and several in a frame.

use millstream_core::RawJson;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::outcome::{CallError, Outcome};
use super::testbed::{CallId, ClientId, Testbed, arguments};
use crate::user::User;

impl<S: Send + Sync + 'static, U: User> Testbed<S, U> {
    /// Calls a function and lets time pass until it has answered.
    ///
    /// Arguments are a tuple, list, or a single value; `()` is none.
    ///
    /// # Errors
    /// What the client is told; `TIMEOUT` after
    /// [`Settings::timeout`](super::Settings::timeout).
    pub fn call(&mut self, client: ClientId, path: &str, args: impl Serialize) -> Outcome {
        let call = self.start(client, path, args);
        self.wait(call)
    }

    /// Calls a function whose result is of a known type.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Panics
    /// When the result is of another type.
    pub fn call_as<T: DeserializeOwned>(
        &mut self,
        client: ClientId,
        path: &str,
        args: impl Serialize,
    ) -> Result<T, CallError> {
        let value = self.call(client, path, args)?;
        Ok(typed(path, value))
    }

    /// Starts a call. Nothing happens until time or [`settle`](Self::settle) goes on.
    pub fn start(&mut self, client: ClientId, path: &str, args: impl Serialize) -> CallId {
        self.start_as(client, path, args, None)
    }

    /// Calls an idempotent function under a key of the client, and lets time pass until it has
    /// answered.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_once(
        &mut self,
        client: ClientId,
        path: &str,
        args: impl Serialize,
        key: &str,
    ) -> Outcome {
        let call = self.start_once(client, path, args, key);
        self.wait(call)
    }

    /// Starts what [`call_once`](Self::call_once) calls.
    pub fn start_once(
        &mut self,
        client: ClientId,
        path: &str,
        args: impl Serialize,
        key: &str,
    ) -> CallId {
        self.start_as(client, path, args, Some(key))
    }

    fn start_as(
        &mut self,
        client: ClientId,
        path: &str,
        args: impl Serialize,
        key: Option<&str>,
    ) -> CallId {
        let args = arguments(&args);
        self.note(format_args!(
            "client {} calls {path} {}",
            client.0,
            args.as_str()
        ));
        let call = self.clients[client.0].call(path, args.get(), key);
        self.write(client.0);
        CallId {
            client: client.0,
            call,
        }
    }

    /// Calls a function that takes bytes, and lets time pass until it has answered. The further
    /// arguments are as those of [`call`](Self::call).
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_binary(
        &mut self,
        client: ClientId,
        path: &str,
        args: impl Serialize,
        bytes: &[u8],
    ) -> Outcome {
        let call = self.start_binary(client, path, args, bytes);
        self.wait(call)
    }

    /// Starts a call that takes bytes.
    pub fn start_binary(
        &mut self,
        client: ClientId,
        path: &str,
        args: impl Serialize,
        bytes: &[u8],
    ) -> CallId {
        let args = arguments(&args);
        let size = bytes.len();
        self.note(format_args!(
            "client {} calls {path} {} with {size} bytes",
            client.0,
            args.as_str()
        ));
        let call = self.clients[client.0].call_binary(path, args.get(), bytes);
        self.write(client.0);
        CallId {
            client: client.0,
            call,
        }
    }

    /// What became of a call or upload, if that is known.
    #[must_use]
    pub fn outcome(&self, call: impl Into<CallId>) -> Option<&Outcome> {
        let call = call.into();
        self.clients[call.client].calls[call.call].as_ref()
    }

    /// Lets time pass until a call or upload has been answered.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn wait(&mut self, call: impl Into<CallId>) -> Outcome {
        let call = call.into();
        let until = self.now + self.settings.timeout;
        self.pass_until(until, |t| t.outcome(call).is_some());
        let outcome = &mut self.clients[call.client].calls[call.call];
        outcome
            .get_or_insert_with(|| Err(CallError::timeout()))
            .clone()
    }

    /// Calls several functions in one frame.
    pub fn batch(&mut self, client: ClientId, calls: &[(&str, Value)]) -> Vec<Outcome> {
        let started = self.start_batch(client, calls);
        started.into_iter().map(|call| self.wait(call)).collect()
    }

    /// Calls several functions in one frame, each after the one before.
    pub fn batch_in_order(&mut self, client: ClientId, calls: &[(&str, Value)]) -> Vec<Outcome> {
        let started = self.start_batch_in_order(client, calls);
        started.into_iter().map(|call| self.wait(call)).collect()
    }

    /// Starts what [`batch`](Self::batch) calls.
    pub fn start_batch(&mut self, client: ClientId, calls: &[(&str, Value)]) -> Vec<CallId> {
        self.start_calls(client, calls, false)
    }

    /// Starts what [`batch_in_order`](Self::batch_in_order) calls.
    pub fn start_batch_in_order(
        &mut self,
        client: ClientId,
        calls: &[(&str, Value)],
    ) -> Vec<CallId> {
        self.start_calls(client, calls, true)
    }

    fn start_calls(
        &mut self,
        client: ClientId,
        calls: &[(&str, Value)],
        sequential: bool,
    ) -> Vec<CallId> {
        self.note(format_args!("client {} calls {calls:?}", client.0));
        let calls: Vec<(String, RawJson)> = calls
            .iter()
            .map(|(path, args)| ((*path).to_owned(), arguments(args)))
            .collect();
        let started = self.clients[client.0].batch(&calls, sequential);
        self.write(client.0);
        let id = |call| CallId {
            client: client.0,
            call,
        };
        started.into_iter().map(id).collect()
    }
}

/// A result of a known type.
pub(super) fn typed<T: DeserializeOwned>(path: &str, value: Value) -> T {
    let read = serde_json::from_value(value.clone());
    read.unwrap_or_else(|error| panic!("{path} gave {value}: {error}"))
}
