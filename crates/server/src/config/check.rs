//! Rules between knobs. All problems are reported, not just the first.

use std::fmt;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::Config;

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The knob to change, or `file`.
    pub knob: &'static str,
    /// What is wrong, with the fact and the limit.
    pub message: String,
}

/// A configuration that cannot be used, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn one(knob: &'static str, message: String) -> Self {
        Self {
            problems: vec![Problem { knob, message }],
        }
    }

    /// At least one.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let line_end = if at + 1 < self.problems.len() {
                "\n"
            } else {
                ""
            };
            write!(f, "{}: {}{line_end}", problem.knob, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks every rule.
    ///
    /// # Errors
    /// [`ConfigError`] with all problems.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut found = Findings(Vec::new());
        self.check_paths(&mut found);
        self.check_upgrades(&mut found);
        self.check_connections(&mut found);
        self.check_secrets(&mut found);
        self.check_tables(&mut found);
        if found.0.is_empty() {
            Ok(())
        } else {
            Err(ConfigError { problems: found.0 })
        }
    }

    fn check_paths(&self, found: &mut Findings) {
        let optional = |path: &Option<String>| path.clone();
        let paths = [
            ("path", Some(self.path.clone())),
            ("auth_path", Some(self.auth_path.clone())),
            ("health_path", optional(&self.health_path)),
            ("ready_path", optional(&self.ready_path)),
            ("metrics_path", optional(&self.metrics_path)),
        ];
        for (at, (knob, path)) in paths.iter().enumerate() {
            let Some(path) = path else { continue };
            let plain = path
                .chars()
                .all(|c| c.is_ascii_graphic() && c != '?' && c != '#');
            found.unless(path.starts_with('/'), knob, || {
                format!("`{path}` must start with `/`")
            });
            found.unless(plain, knob, || {
                format!("`{path}` must be printable ASCII without ? or #")
            });
            for (other, earlier) in &paths[..at] {
                found.unless(earlier.as_ref() != Some(path), knob, || {
                    format!("`{path}` is already used by {other}")
                });
            }
        }
    }

    fn check_upgrades(&self, found: &mut Findings) {
        found.unless(self.workers <= 1_024, "workers", || {
            format!("{} is over the limit of 1024", self.workers)
        });
        found.unless(self.runtime_threads <= 1_024, "runtime_threads", || {
            format!("{} is over the limit of 1024", self.runtime_threads)
        });
        found.unless(self.xff_depth >= 1, "xff_depth", || {
            "must be at least 1".into()
        });
        let limited = self.upgrade_rate_limit > 0;
        let window = self.upgrade_rate_window;
        found.unless(
            !limited || window >= Duration::from_secs(1),
            "upgrade_rate_window",
            || format!("{window:?} is below the minimum of 1s"),
        );
        found.unless(
            window <= Duration::from_secs(86_400),
            "upgrade_rate_window",
            || format!("{window:?} is over the limit of 24h"),
        );
        for (knob, value) in [
            ("connections_max", self.connections_max),
            ("http_connections_max", self.http_connections_max),
            ("auth_concurrent_max", self.auth_concurrent_max),
            ("listen_backlog", self.listen_backlog),
        ] {
            found.unless(value > 0, knob, || "must be at least 1".into());
        }
        found.unless(self.listen_backlog <= 65_535, "listen_backlog", || {
            format!("{} is over the limit of 65535", self.listen_backlog)
        });
        if let super::AllowedOrigins::List(list) = &self.allowed_origins {
            found.unless(!list.is_empty(), "allowed_origins", || {
                "the list is empty".into()
            });
            for origin in list
                .iter()
                .filter(|origin| *origin == "*" || origin.ends_with('/'))
            {
                found.add(
                    "allowed_origins",
                    format!("`{origin}` in a list never matches a page"),
                );
            }
        }
    }

    fn check_connections(&self, found: &mut Findings) {
        between(
            found,
            "header_bytes_max",
            self.header_bytes_max,
            8 * 1_024,
            1 << 20,
        );
        between(
            found,
            "message_bytes_max",
            self.message_bytes_max,
            128,
            256 << 20,
        );
        between(
            found,
            "backpressure_bytes_max",
            self.backpressure_bytes_max,
            1_024,
            1 << 30,
        );
        for (knob, time) in [
            ("header_read_timeout", self.header_read_timeout),
            ("http_connection_age_max", self.http_connection_age_max),
        ] {
            found.unless(time >= Duration::from_millis(100), knob, || {
                format!("{time:?} is below the minimum of 100ms")
            });
        }
        let idle = self.idle_timeout;
        let usual = Duration::from_secs(8)..=Duration::from_secs(960);
        found.unless(
            idle.is_zero() || usual.contains(&idle),
            "idle_timeout",
            || format!("{idle:?} is neither 0 nor between 8s and 960s"),
        );
        let keepalive = self.keepalive_after;
        let seen = Duration::from_secs(1)..Duration::from_secs(150);
        found.unless(
            !self.heartbeat || seen.contains(&keepalive),
            "keepalive_after",
            || format!("{keepalive:?} is not between 1s and 149s; browsers give up after 150s"),
        );
        found.unless(
            self.drain_spread <= self.drain_deadline,
            "drain_spread",
            || {
                let deadline = self.drain_deadline;
                format!(
                    "{:?} is longer than the drain_deadline of {deadline:?}",
                    self.drain_spread
                )
            },
        );
    }

    fn check_secrets(&self, found: &mut Findings) {
        let (cert, key) = (self.tls_cert.is_some(), self.tls_key.is_some());
        found.unless(cert == key, "tls_cert", || {
            "tls_cert and tls_key need each other".into()
        });
        for (at, key) in self.api_keys.iter().enumerate() {
            found.unless(key.len() >= 16, "api_keys", || {
                format!(
                    "key {} has {} characters, the minimum is 16",
                    at + 1,
                    key.len()
                )
            });
            found.unless(
                key.bytes().all(|byte| byte.is_ascii_graphic()),
                "api_keys",
                || {
                    format!(
                        "key {} holds a character that cannot be in a header",
                        at + 1
                    )
                },
            );
        }
        if let Err(error) = EnvFilter::try_new(&self.log_filter) {
            found.add("log_filter", format!("`{}`: {error}", self.log_filter));
        }
        for pattern in self.open_topics.iter().flatten() {
            let inner = pattern.strip_suffix('*').unwrap_or(pattern);
            found.unless(!inner.contains('*'), "open_topics", || {
                format!("`{pattern}`: a star may only stand at the end")
            });
        }
    }

    fn check_tables(&self, found: &mut Findings) {
        let interval = self.pressure.sample_interval;
        found.unless(
            interval >= Duration::from_millis(100),
            "sample_interval",
            || format!("{interval:?} is below the minimum of 100ms"),
        );
        let limits = &self.limits;
        for (knob, value) in [
            ("subscriptions_max", limits.subscriptions_max),
            ("topics_max", limits.topics_max),
            ("batch_topics_max", limits.batch_topics_max),
            ("pending_topics_max", limits.pending_topics_max),
            ("coalesce_keys_max", limits.coalesce_keys_max),
            ("requests_max", limits.requests_max),
            ("batch_members_max", limits.batch_members_max),
        ] {
            found.unless(value > 0, knob, || "must be at least 1".into());
        }
        between(
            found,
            "backlog_pieces_max",
            limits.backlog_pieces_max,
            16,
            1 << 24,
        );
        between(
            found,
            "control_bytes_max",
            limits.control_bytes_max,
            1_024,
            1 << 30,
        );
        between(
            found,
            "turn_bytes_max",
            limits.turn_bytes_max,
            4_096,
            1 << 28,
        );
        between(
            found,
            "coalesce_bytes_max",
            limits.coalesce_bytes_max,
            1_024,
            1 << 30,
        );
        between(
            found,
            "hold_bytes_max",
            limits.hold_bytes_max,
            1_024,
            1 << 30,
        );
    }
}

struct Findings(Vec<Problem>);

impl Findings {
    fn add(&mut self, knob: &'static str, message: String) {
        self.0.push(Problem { knob, message });
    }

    fn unless(&mut self, fine: bool, knob: &'static str, message: impl FnOnce() -> String) {
        if !fine {
            self.add(knob, message());
        }
    }
}

fn between(found: &mut Findings, knob: &'static str, value: usize, least: usize, most: usize) {
    found.unless((least..=most).contains(&value), knob, || {
        format!("{value} is not between {least} and {most}")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<&'static str> {
        let config = Config::from_toml(text).expect("parses");
        match config.validate() {
            Ok(()) => Vec::new(),
            Err(error) => error
                .problems()
                .iter()
                .map(|problem| problem.knob)
                .collect(),
        }
    }

    #[test]
    fn the_default_is_fine() {
        assert!(problems("").is_empty());
    }

    #[test]
    fn each_rule_names_its_knob() {
        for (text, knob) in [
            ("path = \"ws\"", "path"),
            ("path = \"/a?b\"", "path"),
            ("auth_path = \"/ws\"", "auth_path"),
            ("ready_path = \"/healthz\"", "ready_path"),
            ("workers = 5000", "workers"),
            ("xff_depth = 0", "xff_depth"),
            ("upgrade_rate_window = \"10ms\"", "upgrade_rate_window"),
            ("connections_max = 0", "connections_max"),
            ("header_bytes_max = 4096", "header_bytes_max"),
            ("idle_timeout = 7", "idle_timeout"),
            ("idle_timeout = 961", "idle_timeout"),
            ("keepalive_after = 150", "keepalive_after"),
            ("drain_spread = 31", "drain_spread"),
            ("tls_cert = \"cert.pem\"", "tls_cert"),
            ("api_keys = [\"short\"]", "api_keys"),
            ("log_filter = \"a=b=c\"", "log_filter"),
            ("open_topics = [\"a*b\"]", "open_topics"),
            (
                "allowed_origins = [\"http://a.example/\"]",
                "allowed_origins",
            ),
            ("[pressure]\nsample_interval = \"1ms\"", "sample_interval"),
            ("[limits]\ntopics_max = 0", "topics_max"),
        ] {
            assert_eq!(problems(text), [knob], "{text}");
        }
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        assert_eq!(
            problems("xff_depth = 0\nidle_timeout = 1\nkeepalive_after = 500"),
            ["xff_depth", "idle_timeout", "keepalive_after"]
        );
    }

    #[test]
    fn zero_is_never_for_the_idle_timeout() {
        assert!(problems("idle_timeout = 0\nheartbeat = false\nkeepalive_after = 0").is_empty());
    }
}
