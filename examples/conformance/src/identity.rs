//! Who a connection is, as the upgrade request says.

use std::borrow::Cow;
use std::collections::HashMap;

use millstream_live::User;
use millstream_server::UpgradeRequest;
use serde::Serialize;

/// Travels with the connection. `id` is absent for anonymous connections.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity {
    pub(crate) id: Option<String>,
    role: Option<String>,
    org: Option<String>,
    team: Option<String>,
    remote_address: String,
    request_id: String,
    cookies: HashMap<String, String>,
    url: String,
}

impl Identity {
    /// Reads query parameters first, then cookies of the same name with the prefix `conf_`.
    pub(crate) fn of(request: &UpgradeRequest, anonymous: bool) -> Self {
        let read = |name: &str| {
            let from_query = request.query(name).map(|value| value.into_owned());
            from_query.or_else(|| request.cookies.get(&format!("conf_{name}")).cloned())
        };
        let id = read("user").filter(|id| !id.is_empty() && !anonymous);
        let of_user = |name: &str| if id.is_some() { read(name) } else { None };
        Self {
            role: of_user("role"),
            org: of_user("org"),
            team: of_user("team"),
            remote_address: request.remote_address.to_string(),
            request_id: request.request_id.to_string(),
            cookies: request.cookies.clone(),
            url: request.url.clone(),
            id,
        }
    }

    pub(crate) fn org(&self) -> Option<&str> {
        self.org.as_deref()
    }

    pub(crate) fn team(&self) -> Option<&str> {
        self.team.as_deref()
    }

    pub(crate) fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }
}

impl User for Identity {
    fn id(&self) -> Option<Cow<'_, str>> {
        self.id.as_deref().map(Cow::Borrowed)
    }

    fn role(&self) -> Option<Cow<'_, str>> {
        self.role.as_deref().map(Cow::Borrowed)
    }

    fn team(&self) -> Option<Cow<'_, str>> {
        self.team.as_deref().map(Cow::Borrowed)
    }

    fn organization(&self) -> Option<Cow<'_, str>> {
        self.org.as_deref().map(Cow::Borrowed)
    }

    /// The facts of anonymous connections are kept as well.
    fn is_known(&self) -> bool {
        self.id.is_some()
    }
}
