//! The rules of a stream, written down as plainly as possible: vectors, linear searches, no
//! concern for cost.

use serde_json::{Value, json};

/// What an item is known by. Arrays and objects are never equal to anything, so they have none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Name {
    Missing,
    Value(Value),
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) strategy: &'static str,
    pub(crate) key: String,
    pub(crate) prepend: bool,
    pub(crate) max: usize,
    pub(crate) value: Option<Value>,
    /// Which name leads to which position.
    pub(crate) index: Vec<(Name, usize)>,
}

/// The event was refused.
#[derive(Debug)]
pub(crate) struct Refused;

impl Model {
    pub(crate) fn new(strategy: &'static str, key: &str, prepend: bool, max: usize) -> Self {
        Self {
            strategy,
            key: key.to_owned(),
            prepend,
            max,
            value: None,
            index: Vec::new(),
        }
    }

    pub(crate) fn keyed(&self) -> bool {
        matches!(self.strategy, "crud" | "presence" | "cursor")
    }

    pub(crate) fn field(&self) -> &str {
        if matches!(self.strategy, "presence" | "cursor") {
            "key"
        } else {
            &self.key
        }
    }

    pub(crate) fn load(&mut self, value: Value) {
        self.value = Some(value);
        self.rebuild();
    }

    /// False if nothing changed and readers need not know.
    pub(crate) fn apply(&mut self, event: &str, data: &Value) -> Result<bool, Refused> {
        let mut data = data.clone();
        if self.keyed() {
            sanitise(&mut data);
        }
        if event == "refreshed" {
            self.load(data);
            return Ok(true);
        }
        let keyed_event = matches!(
            (self.strategy, event),
            ("crud", "created" | "updated" | "deleted")
                | ("presence", "join" | "leave")
                | ("cursor", "update" | "remove")
        );
        if keyed_event && data.is_null() {
            return Err(Refused);
        }
        if self.strategy == "set" {
            if self
                .value
                .as_ref()
                .is_some_and(|old| same_primitive(old, &data))
            {
                return Ok(false);
            }
            self.value = Some(data);
            return Ok(true);
        }
        if self.strategy == "sorted" {
            return Ok(true);
        }
        if !matches!(self.value, Some(Value::Array(_))) {
            self.load(json!([]));
        }
        match (self.strategy, event) {
            ("latest", _) => {
                let max = self.max;
                let rows = self.rows();
                rows.push(data);
                if max > 0 && rows.len() > max {
                    rows.drain(..rows.len() - max);
                }
            }
            ("crud", "created") => self.created(data),
            ("presence", "join") | ("cursor", "update") => self.upsert(data),
            ("crud", "updated") => self.updated(data),
            ("crud", "deleted") | ("presence", "leave") | ("cursor", "remove") => {
                self.removed(&data);
            }
            ("presence" | "cursor", "set") => self.load(data),
            _ => {}
        }
        Ok(true)
    }

    fn created(&mut self, data: Value) {
        if self.known(&data).is_some() {
            return self.updated(data);
        }
        let (max, name) = (self.max, self.name(&data));
        if self.prepend {
            self.rows().insert(0, data);
            for (_, at) in &mut self.index {
                *at += 1;
            }
            self.point(name, 0);
            while max > 0 && self.rows().len() > max {
                let dropped = self.rows().pop().expect("longer than max");
                let name = self.name(&dropped);
                self.index.retain(|(other, _)| Some(other) != name.as_ref());
            }
        } else {
            self.rows().push(data);
            let at = self.rows().len() - 1;
            self.point(name, at);
            if max > 0 && at + 1 > max {
                self.rows().drain(..at + 1 - max);
                self.rebuild();
            }
        }
    }

    fn upsert(&mut self, data: Value) {
        if self.known(&data).is_some() {
            return self.updated(data);
        }
        let name = self.name(&data);
        self.rows().push(data);
        let at = self.rows().len() - 1;
        self.point(name, at);
    }

    fn updated(&mut self, data: Value) {
        if let Some(at) = self.known(&data) {
            self.rows()[at] = data;
        }
    }

    fn removed(&mut self, data: &Value) {
        let Some(at) = self.known(data) else { return };
        let name = self.name(data);
        self.index.retain(|(other, _)| Some(other) != name.as_ref());
        let last = self.rows().pop().expect("it is known");
        if at < self.rows().len() {
            let name = self.name(&last);
            self.rows()[at] = last;
            self.point(name, at);
        }
    }

    /// A frame: drop superseded updates, apply the rest. True if readers should know.
    pub(crate) fn frame(&mut self, events: &[(&str, Value)]) -> bool {
        let mut notifies = false;
        let update = |event: &str| matches!(event, "updated" | "update" | "join");
        for (at, (event, data)) in events.iter().enumerate() {
            let name = self.name(data).filter(|name| *name != Name::Missing);
            let later = |(other, later): &(&str, Value)| {
                update(other) && self.name(later).as_ref() == name.as_ref()
            };
            if self.keyed() && update(event) && name.is_some() && events[at + 1..].iter().any(later)
            {
                continue;
            }
            notifies |= self.apply(event, data).unwrap_or(false);
        }
        notifies
    }

    pub(crate) fn page(&mut self, page: Value) {
        match (self.value.take(), page) {
            (Some(Value::Array(rows)), Value::Array(page)) => {
                let rows = if self.prepend {
                    [page, rows]
                } else {
                    [rows, page]
                };
                self.value = Some(Value::Array(rows.concat()));
            }
            (_, page) => self.value = Some(page),
        }
        self.rebuild();
    }

    pub(crate) fn delta(&mut self, items: &[Value]) {
        for item in items {
            let deleted = &item["_deleted"];
            let truthy = !(deleted.is_null() || *deleted == json!(false) || *deleted == json!(0));
            let event = match self.known(item) {
                _ if truthy => "deleted",
                Some(_) => "updated",
                None => "created",
            };
            let _ = self.apply(event, item);
        }
        self.rebuild();
    }

    pub(crate) fn rebuild(&mut self) {
        self.index.clear();
        let Some(Value::Array(rows)) = self.value.clone() else {
            return;
        };
        if !self.keyed() {
            return;
        }
        for (at, row) in rows.iter().enumerate() {
            let name = self.name(row).filter(|name| *name != Name::Missing);
            self.point(name, at);
        }
    }

    /// What the data is known by; `None` for an array or object as key.
    pub(crate) fn name(&self, data: &Value) -> Option<Name> {
        match data.get(self.field()) {
            None => Some(Name::Missing),
            Some(Value::Array(_) | Value::Object(_)) => None,
            Some(key) => Some(Name::Value(normal(key))),
        }
    }

    fn known(&self, data: &Value) -> Option<usize> {
        let name = self.name(data)?;
        self.index
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, at)| *at)
    }

    fn point(&mut self, name: Option<Name>, at: usize) {
        let Some(name) = name else { return };
        self.index.retain(|(other, _)| *other != name);
        self.index.push((name, at));
    }

    fn rows(&mut self) -> &mut Vec<Value> {
        match &mut self.value {
            Some(Value::Array(rows)) => rows,
            other => panic!("not a list: {other:?}"),
        }
    }
}

fn sanitise(data: &mut Value) {
    match data {
        Value::Object(members) => {
            members.retain(|name, _| !["__proto__", "constructor", "prototype"].contains(&&**name));
        }
        Value::Array(elements) => elements.iter_mut().for_each(sanitise),
        _ => {}
    }
}

pub(crate) fn same_primitive(a: &Value, b: &Value) -> bool {
    !a.is_array() && !a.is_object() && normal(a) == normal(b)
}

/// Numbers by value: 1 is 1.0, and 0 is -0.
pub(crate) fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().expect("a number") + 0.0),
        Value::Array(elements) => elements.iter().map(normal).collect(),
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(name, value)| (name.clone(), normal(value)));
            Value::Object(members.collect())
        }
        other => other.clone(),
    }
}
