//! Configuration: every knob, its layers and its checks.
//!
//! Values come from, in rising order of weight: defaults, a TOML file, the environment
//! (`MILLSTREAM_*`), flags. The page `docs/configuration.md` lists them all; a test checks it.

mod check;
mod knobs;
mod table;
mod values;

use std::fmt;
use std::fs;
use std::path::Path;

pub use self::check::{ConfigError, Problem};
pub use self::knobs::Knob;
pub(crate) use self::table::ConfigLayer;
pub use self::table::{Config, LimitsConfig, PressureConfig};
pub use self::values::{AllowedOrigins, ApiKeys, FixedOrigin, LogFormat};

impl Config {
    /// Reads a configuration file on top of the defaults.
    ///
    /// # Errors
    /// [`ConfigError`] when it cannot be read, is not TOML, or has an unknown key or a bad value.
    /// Rules between knobs are not checked here; see [`validate`](Self::validate).
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        Self::default().with_file(path)
    }

    /// Reads TOML text on top of the defaults.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    ///
    /// ```
    /// let config = millstream_server::Config::from_toml("idle_timeout = \"12s\"")?;
    /// assert_eq!(config.idle_timeout.as_secs(), 12);
    /// assert!(millstream_server::Config::from_toml("idle_timout = 12").is_err());
    /// # Ok::<(), millstream_server::ConfigError>(())
    /// ```
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::default().with_toml(text)
    }

    pub(crate) fn with_file(self, path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| {
            ConfigError::one("file", format!("cannot read {}: {error}", path.display()))
        })?;
        self.with_toml(&text)
    }

    fn with_toml(self, text: &str) -> Result<Self, ConfigError> {
        let layer: ConfigLayer = toml::from_str(text).map_err(|error| {
            // Not the error's own text: it quotes the line, which may hold a secret.
            let line = error.span().map_or(0, |span| {
                text.get(..span.start)
                    .map_or(0, |before| before.matches('\n').count() + 1)
            });
            ConfigError::one("file", format!("line {line}: {}", error.message()))
        })?;
        Ok(self.with_layer(layer))
    }

    pub(crate) fn with_layer(mut self, layer: ConfigLayer) -> Self {
        self.apply(layer);
        self
    }

    /// Every knob with its value as TOML, secrets redacted.
    pub(crate) fn shown_with_knobs(&self) -> Vec<(Knob, String)> {
        Self::knobs().into_iter().zip(self.shown()).collect()
    }

    /// Whether the server is only reachable from this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// Whether the server does TLS itself.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls_cert.is_some() && self.tls_key.is_some()
    }

    /// Whether the page at `/` is served, with `auto` decided.
    #[must_use]
    pub fn serves_playground(&self) -> bool {
        self.playground.unwrap_or_else(|| self.is_loopback())
    }

    /// The patterns of open topics, with `auto` decided: none when the application has an upgrade
    /// hook or streams.
    #[must_use]
    pub fn open_patterns(&self, application_decides: bool) -> Vec<String> {
        let auto = || {
            let development = self.is_loopback() && !application_decides;
            if development {
                vec!["*".to_owned()]
            } else {
                Vec::new()
            }
        };
        self.open_topics.clone().unwrap_or_else(auto)
    }

    /// The page of all knobs, as Markdown.
    #[must_use]
    pub fn reference() -> String {
        let mut page = String::from(REFERENCE_HEAD);
        let mut group = "";
        for (knob, default) in Self::default().shown_with_knobs() {
            if group != knob.group {
                group = knob.group;
                page.push_str(&format!("\n## {group}\n"));
                if !knob.table.is_empty() {
                    page.push_str(&format!("\nTOML table `[{}]`.\n", knob.table));
                }
            }
            page.push_str(&format!(
                "\n### `{}`\n\n{}\n\n- default: `{default}`\n- flag `--{} {}`, environment `{}`\n\
                 - cost: {}\n- at the limit: {}\n- seen in: {}\n",
                knob.name,
                knob.purpose,
                knob.name.replace('_', "-"),
                knob.shape,
                knob.variable,
                knob.cost,
                knob.at_limit,
                knob.metric
            ));
        }
        page
    }
}

/// The effective configuration as TOML, secrets redacted.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = "";
        for (knob, value) in self.shown_with_knobs() {
            if table != knob.table {
                table = knob.table;
                writeln!(f, "\n[{table}]")?;
            }
            writeln!(f, "{} = {value}", knob.name)?;
        }
        Ok(())
    }
}

/// As `Display`, so that a secret cannot slip into a log.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.shown_with_knobs()
                    .into_iter()
                    .map(|(knob, value)| (knob.name, value)),
            )
            .finish()
    }
}

const REFERENCE_HEAD: &str = "\
# Configuration

Every knob of the server. This page is generated from the code; a test fails when it is stale
(`UPDATE_DOCS=1 cargo test -p millstream-server --test config` writes it).

Values come from, in rising order of weight: the defaults below, the TOML file given with
`--config FILE` (or `MILLSTREAM_CONFIG`), the environment, flags. Unknown keys of the file are
errors. Unknown `MILLSTREAM_*` variables are only warned about, because container platforms set
variables of that shape for services of that name. `millstream check` prints the effective
configuration, secrets redacted, or all problems.

Times: `10` (seconds), `1.5s`, `250ms`, `2m`, `1h`; `0` or `off` for zero. Sizes: `16384`, `16KiB`,
`1MiB`. Lists: TOML lists, or commas in flags and variables.

Bound to a loopback address (the default) the server is in development mode: clients may subscribe
to every topic, the playground is served at `/`, and `POST /api/publish` needs no key. Against DNS
rebinding it then accepts pages and publishes only when `Host` is a loopback name (`localhost`,
`127.0.0.1`, `[::1]`). Bound to any other address none of this holds unless configured, and the
server refuses to start when `same-origin` would compare two values that the client chooses both:
set `origin`, `host_header`, TLS or a list of origins.
";
