//! Plays the scenarios of `vectors/` against the engines: the words of the scenarios on one side,
//! the crate's interface on the other. Shared by the tests and by `examples/vectors.rs`.

mod cursor;
mod groups;
mod presence;

pub(crate) use cursor::CursorRig;
pub(crate) use groups::GroupRig;
use millstream_core::{ConnId, RawJson};
use millstream_presence::{Data, Effects};
pub(crate) use presence::PresenceRig;
use serde_json::{Map, Value, json};

/// Stands for a selection that gave JavaScript's `undefined`, which JSON cannot say.
const UNDEFINED: &str = "\u{1}undefined";

/// Fills in what was observed, by the scenario's `plugin` or by what its steps ask for.
///
/// # Errors
/// When neither tells.
pub(crate) fn observe(scenario: &mut Value) -> Result<(), String> {
    let plugin = match scenario.get("plugin").and_then(Value::as_str) {
        Some(plugin) => plugin.to_owned(),
        None => infer(scenario)?,
    };
    let observed = match plugin.as_str() {
        "presence" => millstream_vectors::run::<PresenceRig>(scenario),
        "cursor" => millstream_vectors::run::<CursorRig>(scenario),
        "groups" => millstream_vectors::run::<GroupRig>(scenario),
        other => return Err(format!("no such plugin: {other}")),
    };
    scenario["expect"] = Value::Array(observed);
    Ok(())
}

fn infer(scenario: &Value) -> Result<String, String> {
    const OPS: [(&str, &[&str]); 3] = [
        ("cursor", &["update", "remove", "snapshot", "hookMessage"]),
        (
            "groups",
            &[
                "publish", "send", "members", "close", "meta", "setMeta", "has", "name",
            ],
        ),
        ("presence", &["sync", "flush"]),
    ];
    const OPTIONS: [(&str, &[&str]); 3] = [
        ("cursor", &["throttle", "maxTopicLength", "maxDataBytes"]),
        ("groups", &["name", "maxMembers", "callbacks"]),
        ("presence", &["heartbeat", "key"]),
    ];
    let steps = scenario["steps"].as_array().ok_or("no steps")?;
    let mut options: Vec<&Value> = vec![&scenario["options"]];
    options.extend(
        steps
            .iter()
            .filter(|s| s["op"] == "new")
            .map(|s| &s["args"][0]),
    );
    for (plugin, names) in OPTIONS {
        let has = |options: &&Value| names.iter().any(|name| options.get(name).is_some());
        if options.iter().any(has) {
            return Ok(plugin.to_owned());
        }
    }
    for (plugin, ops) in OPS {
        let asks = |step: &Value| ops.iter().any(|op| step["op"] == *op);
        if steps.iter().any(asks) {
            return Ok(plugin.to_owned());
        }
    }
    // Groups always have a name; cursors know nothing of joining.
    if steps
        .iter()
        .any(|step| step["op"] == "join" || step["op"] == "hookSubscribe")
    {
        return Ok("presence".to_owned());
    }
    Err("cannot tell the plugin: give one".to_owned())
}

/// What the scenario says about its connections, by number.
#[derive(Default)]
struct Conns {
    names: Vec<String>,
    about: Map<String, Value>,
}

impl Conns {
    fn new(scenario: &Value) -> Self {
        Self {
            names: Vec::new(),
            about: scenario["conns"].as_object().cloned().unwrap_or_default(),
        }
    }

    fn id(&mut self, name: &Value) -> ConnId {
        let name = name.as_str().expect("a connection's name");
        let at = self.names.iter().position(|known| known == name);
        let at = at.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        ConnId::from_u64(at as u64)
    }

    fn name(&self, id: ConnId) -> &str {
        &self.names[usize::try_from(id.to_u64()).expect("one of ours")]
    }

    fn about(&self, id: ConnId, what: &str) -> Option<&Value> {
        self.about.get(self.name(id))?.get(what)
    }

    fn says(&self, id: ConnId, what: &str) -> bool {
        self.about(id, what) == Some(&Value::Bool(true))
    }

    fn user_data(&self, id: ConnId) -> Value {
        if self.says(id, "noGetUserData") {
            return json!({});
        }
        let data = self.about(id, "userData").map(millstream_vectors::expand);
        without_undefined(&data.unwrap_or_else(|| json!({})))
    }

    fn set_user_data(&mut self, id: ConnId, data: &Value) {
        let name = self.name(id).to_owned();
        let about = self.about.entry(name).or_insert_with(|| json!({}));
        about["userData"] = data.clone();
    }
}

/// Members without a value are left out, elsewhere there is null, as JSON does it.
fn without_undefined(value: &Value) -> Value {
    match value {
        _ if millstream_vectors::is_undefined(value) => Value::Null,
        Value::Array(items) => items.iter().map(without_undefined).collect(),
        Value::Object(members) => {
            let members = members.iter();
            let members = members.filter(|(_, v)| !millstream_vectors::is_undefined(v));
            Value::Object(
                members
                    .map(|(k, v)| (k.clone(), without_undefined(v)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

/// An argument, unless it is missing or undefined.
fn argument(args: &[Value], at: usize) -> Option<&Value> {
    args.get(at)
        .filter(|arg| !millstream_vectors::is_undefined(arg))
}

fn raw(value: &Value) -> RawJson {
    RawJson::parse_with_depth(value.to_string().into(), u32::MAX).expect("what serde_json wrote")
}

fn injected(subject: &str) -> Value {
    millstream_vectors::rule("injected", subject)
}

/// How a scenario selects from user data.
enum Selection {
    Default,
    Engine(millstream_presence::Select),
    Field(String),
    Const(Value),
    Throws,
}

impl Selection {
    fn new(options: &Value) -> Option<Self> {
        use millstream_presence::Select;
        match &options["select"] {
            Value::String(name) if name == "identity" => Some(Self::Engine(Select::Identity)),
            Value::String(name) if name == "throw" => Some(Self::Throws),
            Value::String(name) if name == "default" || name.is_empty() => Some(Self::Default),
            Value::Null | Value::Bool(false) => Some(Self::Default),
            object if millstream_vectors::is_undefined(object) => Some(Self::Default),
            Value::Number(number) if number.as_f64() == Some(0.0) => Some(Self::Default),
            object => {
                if let Some(names) = object.get("pick").and_then(Value::as_array) {
                    let names = names.iter().filter_map(Value::as_str).map(str::to_owned);
                    return Some(Self::Engine(Select::Pick(names.collect())));
                }
                if let Some(name) = object.get("field").and_then(Value::as_str) {
                    return Some(Self::Field(name.to_owned()));
                }
                object.get("const").map(|value| Self::Const(value.clone()))
            }
        }
    }

    /// What the engine does of it; the rest is done here.
    fn of_engine(&self, default: millstream_presence::Select) -> millstream_presence::Select {
        match self {
            Self::Default => default,
            Self::Engine(select) => select.clone(),
            _ => millstream_presence::Select::Identity,
        }
    }

    /// The user data as the engine gets it. `Err` when the selection fails.
    fn user(&self, data: Value) -> Result<Value, Value> {
        match self {
            Self::Default | Self::Engine(_) => Ok(data),
            Self::Field(name) => Ok(data.get(name).cloned().unwrap_or_else(|| UNDEFINED.into())),
            Self::Const(value) if millstream_vectors::is_undefined(value) => Ok(UNDEFINED.into()),
            Self::Const(value) => Ok(value.clone()),
            Self::Throws => Err(injected("select")),
        }
    }
}

/// Writes effects in the words of the scenarios.
struct Record<'a> {
    conns: &'a Conns,
    out: &'a mut Vec<Value>,
}

impl Effects for Record<'_> {
    fn tap(&mut self, conn: ConnId, topic: &str) {
        let conn = self.conns.name(conn);
        self.out
            .push(json!({"via": "subscribe", "conn": conn, "topic": topic}));
    }

    fn untap(&mut self, conn: ConnId, topic: &str) {
        // A socket that refuses is not seen to be asked.
        if self.conns.says(conn, "unsubscribeThrows") {
            return;
        }
        let conn = self.conns.name(conn);
        self.out
            .push(json!({"via": "unsubscribe", "conn": conn, "topic": topic}));
    }

    fn publish(&mut self, topic: &str, event: &str, data: &Data<'_>) {
        let data = parse(data);
        self.out
            .push(json!({"via": "publish", "topic": topic, "event": event, "data": data}));
    }

    fn send(&mut self, conn: ConnId, topic: &str, event: &str, data: &Data<'_>) {
        let (to, data) = (self.conns.name(conn), parse(data));
        self.out
            .push(json!({"via": "send", "to": to, "topic": topic, "event": event, "data": data}));
    }
}

/// The data of a frame; its pieces have to make one JSON value of the stated length.
fn parse(data: &Data<'_>) -> Value {
    let text = data.to_vec();
    assert_eq!(text.len(), data.len());
    let mut value = serde_json::from_slice(&text).expect("pieces that make a JSON value");
    drop_undefined(&mut value);
    value
}

fn drop_undefined(value: &mut Value) {
    match value {
        Value::Object(members) if members.get("user").is_some_and(|user| user == UNDEFINED) => {
            members.remove("user");
        }
        Value::Array(items) => items.iter_mut().for_each(drop_undefined),
        _ => {}
    }
}
