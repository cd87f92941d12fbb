//! One definition of a knob gives its field, flag, environment variable, TOML key, help and page.

/// What the documentation says about one knob.
#[derive(Debug, Clone, Copy)]
pub struct Knob {
    /// The heading it belongs to.
    pub group: &'static str,
    /// The TOML table, empty for the top level.
    pub table: &'static str,
    /// TOML key; the flag is the same with dashes.
    pub name: &'static str,
    /// Environment variable.
    pub variable: &'static str,
    /// The kind of value.
    pub shape: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// What it can cost.
    pub cost: &'static str,
    /// What happens at the limit.
    pub at_limit: &'static str,
    /// How to see it.
    pub metric: &'static str,
}

/// Defines a table of knobs: the plain struct, the layer of optional values and the documentation.
macro_rules! knobs {
    (
        $(#[$doc:meta])*
        $config:ident, $layer:ident, table $table:literal;
        $( group $group:literal { $(
            $name:ident: $plain:ty as $wire:ident = $default:expr, $variable:literal;
            purpose $purpose:literal; cost $cost:literal; at_limit $limit:literal;
            metric $metric:literal;
        )* } )*
        $(nested $nested:ident: $nested_config:ident, $nested_layer:ident, $nested_doc:literal;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone)]
        #[non_exhaustive]
        pub struct $config {
            $($(
                #[doc = $purpose]
                #[doc = ""]
                #[doc = concat!("Cost: ", $cost, " At the limit: ", $limit, " Seen in: ", $metric)]
                pub $name: $plain,
            )*)*
            $(
                #[doc = $nested_doc]
                pub $nested: $nested_config,
            )*
        }

        impl Default for $config {
            fn default() -> Self {
                Self {
                    $($($name: $default,)*)*
                    $($nested: $nested_config::default(),)*
                }
            }
        }

        impl $config {
            /// The documentation of every knob, nested tables last.
            #[must_use]
            pub fn knobs() -> Vec<Knob> {
                #[allow(unused_mut, reason = "only tables with nested ones change it")]
                let mut knobs = vec![$($(Knob {
                    group: $group,
                    table: $table,
                    name: stringify!($name),
                    variable: $variable,
                    shape: $wire::SHAPE,
                    purpose: $purpose,
                    cost: $cost,
                    at_limit: $limit,
                    metric: $metric,
                },)*)*];
                $(knobs.extend($nested_config::knobs());)*
                knobs
            }

            /// The values in the order of [`knobs`](Self::knobs), as TOML; secrets redacted.
            pub(super) fn shown(&self) -> Vec<String> {
                #[allow(unused_mut, reason = "only tables with nested ones change it")]
                let mut shown = vec![$($(self.$name.show(),)*)*];
                $(shown.extend(self.$nested.shown());)*
                shown
            }

            pub(super) fn apply(&mut self, layer: $layer) {
                $($(if let Some(value) = layer.$name {
                    self.$name = value.0;
                })*)*
                $(self.$nested.apply(layer.$nested);)*
            }
        }

        /// Values of one layer (file, or flags and environment); what is absent changes nothing.
        #[derive(Debug, Clone, Default, serde::Deserialize, clap::Args)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $layer {
            $($(
                #[arg(
                    long,
                    env = $variable,
                    hide_env = true,
                    hide_env_values = true,
                    value_name = $wire::SHAPE,
                    help_heading = $group,
                    help = $purpose,
                )]
                $name: Option<$wire>,
            )*)*
            $(
                #[command(flatten)]
                $nested: $nested_layer,
            )*
        }
    };
}
pub(super) use knobs;
