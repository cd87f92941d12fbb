//! Who may have what: ready predicates, scopes, classes of service.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::borrow::Cow;

use millstream_core::RawJson;
use millstream_hub::Snapshot;
use millstream_live::access::{self, Predicate, Role};
use millstream_live::testing::{Outcome, Testbed};
use millstream_live::{
    Admission, App, Call, Ctx, LiveError, Merge, Module, Problem, Reason, Stream, User,
};
use parking_lot::Mutex;

type Cx = Ctx<Mutex<Vec<&'static str>>, Person>;
type Ours = Predicate<Mutex<Vec<&'static str>>, Person>;
type Bed = Testbed<Mutex<Vec<&'static str>>, Person>;

fn code(outcome: Outcome) -> String {
    outcome.map_or_else(|error| error.code, |_| "ok".to_owned())
}

/// The code of a new subscription.
fn subscribe(bed: &mut Bed, path: &str, args: RawJson) -> String {
    let stream = bed.subscribe(bed.client(0), path, args);
    let refused = bed.error(stream).map(|error| error.code.clone());
    assert!(!bed.is_waiting(stream), "{path}");
    refused.unwrap_or_else(|| "ok".to_owned())
}

#[derive(Debug, Clone, Copy, Default)]
struct Person {
    id: Option<&'static str>,
    role: Option<&'static str>,
    team: Option<&'static str>,
    org: Option<&'static str>,
    unknown: bool,
}

impl User for Person {
    fn id(&self) -> Option<Cow<'_, str>> {
        self.id.map(Cow::Borrowed)
    }

    fn role(&self) -> Option<Cow<'_, str>> {
        self.role.map(Cow::Borrowed)
    }

    fn team(&self) -> Option<Cow<'_, str>> {
        self.team.map(Cow::Borrowed)
    }

    fn organization(&self) -> Option<Cow<'_, str>> {
        self.org.map(Cow::Borrowed)
    }

    fn is_known(&self) -> bool {
        !self.unknown
    }
}

const ADA: Person = Person {
    id: Some("ada"),
    role: Some("admin"),
    team: Some("t1"),
    org: Some("mill"),
    unknown: false,
};

/// The codes of a call and of a channel behind the predicate, which have to agree.
fn decide(predicate: fn() -> Ours, user: Option<Person>, args: &str) -> String {
    let module = Module::new("m")
        .call_with("call", Call::new(async |_: Cx| Ok(())).scoped(predicate()))
        .stream(
            "access",
            Stream::fixed("a").merge(Merge::Set).access(predicate()),
        )
        .stream(
            "scoped",
            Stream::fixed("s").merge(Merge::Set).scoped(predicate()),
        );
    let mut bed = Bed::new(App::new(Mutex::default()).module(module).build().unwrap());
    let client = match user {
        Some(user) => bed.connect(user),
        None => bed.connect_unknown(),
    };
    let args = || RawJson::parse(args.to_owned().into()).unwrap();
    let call = code(bed.call(client, "m/call", args()));
    for stream in ["m/access", "m/scoped"] {
        assert_eq!(subscribe(&mut bed, stream, args()), call, "{stream}");
    }
    call
}

#[test]
fn ready_predicates_ask_the_user() {
    let nobody = Person::default();
    let hidden = Person {
        unknown: true,
        ..ADA
    };
    type Case = (fn() -> Ours, &'static str);
    let cases: [Case; 6] = [
        (access::owner, "[]"),
        (access::team, "[]"),
        (access::user, r#"["ada"]"#),
        (access::org, r#"["mi\u006cl"]"#),
        (|| access::user_from(|_, _| Some("ada".to_owned())), "[]"),
        (|| access::org_from(|_, _| Some("mill".to_owned())), "[]"),
    ];
    for (predicate, args) in cases {
        assert_eq!(decide(predicate, Some(ADA), args), "ok");
        assert_eq!(decide(predicate, Some(nobody), args), "FORBIDDEN");
        assert_eq!(decide(predicate, Some(hidden), args), "UNAUTHENTICATED");
        assert_eq!(decide(predicate, None, args), "UNAUTHENTICATED");
    }
    for args in ["[]", "[null]", r#"["eve"]"#, "[5]", r#"[["ada"]]"#] {
        assert_eq!(decide(access::user, Some(ADA), args), "FORBIDDEN", "{args}");
    }
    let five = Person {
        id: Some("5"),
        ..ADA
    };
    assert_eq!(
        decide(access::user, Some(five), "[5]"),
        "FORBIDDEN",
        "no coercion"
    );
    assert_eq!(
        decide(|| access::org_from(|_, _| None), Some(ADA), "[]"),
        "FORBIDDEN"
    );
}

#[test]
fn roles_are_what_is_named_and_nothing_else() {
    let roles = || {
        access::role([
            ("admin", Role::Yes),
            ("guest", Role::No),
            ("editor", Role::If(access::team())),
            (
                "broken",
                Role::If(access::check(async |_, _| {
                    Err(LiveError::new("BROKEN", ""))
                })),
            ),
        ])
    };
    let with = |role| Person {
        role: Some(role),
        ..ADA
    };
    assert_eq!(decide(roles, Some(ADA), "[]"), "ok");
    assert_eq!(decide(roles, Some(with("guest")), "[]"), "FORBIDDEN");
    assert_eq!(decide(roles, Some(with("editor")), "[]"), "ok");
    let alone = Person {
        team: None,
        ..with("editor")
    };
    assert_eq!(decide(roles, Some(alone), "[]"), "FORBIDDEN");
    assert_eq!(decide(roles, Some(with("broken")), "[]"), "BROKEN");
    for name in ["", "constructor", "__proto__", "Admin"] {
        assert_eq!(decide(roles, Some(with(name)), "[]"), "FORBIDDEN", "{name}");
    }
}

#[test]
fn any_and_all_ask_in_order_and_no_further_than_needed() {
    fn tell(name: &'static str, answer: Result<bool, &'static str>) -> Ours {
        access::check(move |ctx: Cx, _| async move {
            ctx.state().lock().push(name);
            answer.map_err(|code| LiveError::new(code, ""))
        })
    }
    fn asked(predicate: Ours) -> (String, Vec<&'static str>) {
        let call = Call::new(async |_: Cx| Ok(())).scoped(predicate);
        let module = Module::new("m").call_with("c", call);
        let mut bed = Bed::new(App::new(Mutex::default()).module(module).build().unwrap());
        let ada = bed.connect(ADA);
        let called = code(bed.call(ada, "m/c", ()));
        let log = bed.state().lock().clone();
        (called, log)
    }
    let three = |a, b, c| [tell("a", a), tell("b", b), tell("c", c)];
    let found = |code: &str, log: &[&'static str]| (code.to_owned(), log.to_vec());
    let (yes, no, bad) = (Ok(true), Ok(false), Err("BROKEN"));
    assert_eq!(
        asked(access::any(three(no, yes, bad))),
        found("ok", &["a", "b"])
    );
    assert_eq!(
        asked(access::any(three(no, bad, yes))),
        found("BROKEN", &["a", "b"])
    );
    assert_eq!(
        asked(access::any(three(no, no, no))),
        found("FORBIDDEN", &["a", "b", "c"])
    );
    assert_eq!(asked(access::any([])), found("FORBIDDEN", &[]));
    assert_eq!(
        asked(access::all(three(yes, no, bad))),
        found("FORBIDDEN", &["a", "b"])
    );
    assert_eq!(
        asked(access::all(three(yes, yes, yes))),
        found("ok", &["a", "b", "c"])
    );
}

#[test]
fn a_class_is_shed_for_new_subscriptions_alone() {
    let stream = |class: &str| Stream::fixed(format!("t:{class}")).class_of_service(class);
    let module = Module::new("m")
        .stream("memory", stream("memory"))
        .stream("never", stream("never"))
        .call("shed", async |ctx: Cx, class: String| ctx.shed(&class));
    let admission = Admission::new()
        .class("memory", [Reason::Memory])
        .class("never", []);
    let app = App::new(Mutex::default())
        .module(module)
        .admission(admission);
    let mut bed = Bed::new(app.build().unwrap());
    let client = bed.connect_unknown();
    let subscribe = |bed: &mut Bed, path: &str| subscribe(bed, path, RawJson::EMPTY_LIST);
    let shed = |bed: &mut Bed, class: &str| {
        let shed = bed.call_as::<bool>(client, "m/shed", [class]);
        shed.map_err(|error| error.code)
    };
    assert_eq!(subscribe(&mut bed, "m/memory"), "ok");
    assert_eq!(shed(&mut bed, "memory"), Ok(false));
    bed.set_pressure(Snapshot {
        active: true,
        reason: Reason::Memory,
        ..Snapshot::default()
    });
    assert_eq!(subscribe(&mut bed, "m/memory"), "OVERLOADED");
    assert_eq!(subscribe(&mut bed, "m/never"), "ok");
    assert_eq!(shed(&mut bed, "memory"), Ok(true));
    assert_eq!(shed(&mut bed, "never"), Ok(false));
    assert_eq!(shed(&mut bed, "no such"), Err("INTERNAL_ERROR".to_owned()));
    assert_eq!(bed.live().stats().shed, 1);
}

#[test]
fn classes_are_declared_once_and_before_they_are_used() {
    let app = |admission: Option<Admission>| {
        let stream = Stream::<(), ()>::fixed("t").class_of_service("bulk");
        let app = App::<(), ()>::new(()).module(Module::new("m").stream("s", stream));
        match admission {
            Some(admission) => app.admission(admission),
            None => app,
        }
    };
    let problem = |admission| app(admission).build().unwrap_err().0[0].problem.clone();
    let unknown = Problem::UnknownClass("bulk".to_owned());
    assert_eq!(problem(None), unknown);
    assert_eq!(problem(Some(Admission::new().class("bulky", []))), unknown);
    let twice = Admission::new()
        .class("bulk", [])
        .class_when("bulk", |_| true);
    assert_eq!(problem(Some(twice)), Problem::ClassTwice("bulk".to_owned()));
    assert!(
        app(Some(Admission::new().class("bulk", [])))
            .build()
            .is_ok()
    );
}
