//! Every knob of the server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use super::knobs::{Knob, knobs};
use super::values::{
    AllowedOrigins, ApiKeys, Bytes, File, Fixed, FixedOrigin, Flag, Format, Header, Keys, Listen,
    LogFormat, Origins, Patterns, Ratio, Route, Show, Small, Span, Switch, Text, Threshold,
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const KIB: usize = 1_024;
const MIB: usize = 1_024 * KIB;

knobs! {
    /// Everything that can be set. Start from [`Config::default`] and change fields, or let the
    /// `millstream` binary layer file, environment and flags.
    ///
    /// ```
    /// use millstream_server::Config;
    /// use std::time::Duration;
    ///
    /// let mut config = Config::default();
    /// config.upgrade_timeout = Duration::from_secs(2);
    /// assert!(config.validate().is_ok());
    /// ```
    Config, ConfigLayer, table "";

    group "Listening" {
        listen: SocketAddr as Listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 3000)),
            "MILLSTREAM_LISTEN";
            purpose "Address and port to listen on. A loopback address is the development mode: \
                see open_topics, playground and api_keys.";
            cost "One socket.";
            at_limit "Start fails when the address is taken.";
            metric "The line `listening on` on standard output.";
        workers: u32 as Small = 0, "MILLSTREAM_WORKERS";
            purpose "I/O worker threads; 0 means one per core.";
            cost "One thread and one read buffer each.";
            at_limit "At most 1024.";
            metric "`millstream_workers`.";
        runtime_threads: u32 as Small = 0, "MILLSTREAM_RUNTIME_THREADS";
            purpose "Threads of the runtime beside the workers, for HTTP and hooks that wait; 0 \
                means one per core, at most 4.";
            cost "One thread each.";
            at_limit "At most 1024.";
            metric "None.";
        listen_backlog: u32 as Small = 4_096, "MILLSTREAM_LISTEN_BACKLOG";
            purpose "Connections the kernel may hold before the server accepts them.";
            cost "Kernel memory, a few hundred bytes each.";
            at_limit "The kernel drops the handshake and the client tries again; \
                `net.core.somaxconn` caps it too.";
            metric "`ListenOverflows` of the kernel.";
    }

    group "Paths" {
        path: String as Text = "/ws".to_owned(), "MILLSTREAM_PATH";
            purpose "Path of the WebSocket, matched exactly.";
            cost "None.";
            at_limit "Other paths are ordinary HTTP.";
            metric "`millstream_upgrades_total`.";
        auth_path: String as Text = "/__ws/auth".to_owned(), "MILLSTREAM_AUTH_PATH";
            purpose "Path of the auth preflight, served only when the application authenticates.";
            cost "None.";
            at_limit "Not served: 404, which clients take as a final refusal.";
            metric "`millstream_auth_total`.";
        health_path: Option<String> as Route = Some("/healthz".to_owned()),
            "MILLSTREAM_HEALTH_PATH";
            purpose "Liveness: 200 with body OK while the process runs. `off` disables it.";
            cost "None.";
            at_limit "Not applicable.";
            metric "`millstream_http_requests_total`.";
        ready_path: Option<String> as Route = Some("/readyz".to_owned()), "MILLSTREAM_READY_PATH";
            purpose "Readiness: 200 when connections are welcome, 503 while starting, full or \
                draining. `off` disables it.";
            cost "None.";
            at_limit "Not applicable.";
            metric "`millstream_http_requests_total`.";
        metrics_path: Option<String> as Route = Some("/metrics".to_owned()),
            "MILLSTREAM_METRICS_PATH";
            purpose "Prometheus metrics, readable by everyone who reaches the port: close it at \
                the proxy, or `off`.";
            cost "A scrape formats every metric once.";
            at_limit "Not applicable.";
            metric "Itself.";
        playground: Option<bool> as Switch = None, "MILLSTREAM_PLAYGROUND";
            purpose "The page at `/` to try the server by hand. `auto`: only when bound to \
                loopback.";
            cost "None.";
            at_limit "Off: 404.";
            metric "`millstream_http_requests_total`.";
    }

    group "Origins and proxies" {
        allowed_origins: AllowedOrigins as Origins = AllowedOrigins::SameOrigin,
            "MILLSTREAM_ALLOWED_ORIGINS";
            purpose "Pages that may open a WebSocket: `same-origin`, `*`, or a list of exact \
                origins. Requests without Origin pass only with an upgrade hook or `*`.";
            cost "None.";
            at_limit "403.";
            metric "`millstream_upgrades_total{outcome=\"origin_refused\"}`.";
        origin: Option<FixedOrigin> as Fixed = None, "MILLSTREAM_ORIGIN";
            purpose "The public origin of this server, such as `https://chat.example`. With it \
                same-origin compares with this and nothing else.";
            cost "None.";
            at_limit "403 for other origins.";
            metric "`millstream_upgrades_total{outcome=\"origin_refused\"}`.";
        host_header: Option<HeaderName> as Header = None, "MILLSTREAM_HOST_HEADER";
            purpose "Header in which a trusted proxy gives the public host. Name it only if the \
                proxy always overwrites it.";
            cost "None.";
            at_limit "When the header is absent, Host counts.";
            metric "None.";
        protocol_header: Option<HeaderName> as Header = None, "MILLSTREAM_PROTOCOL_HEADER";
            purpose "Header in which a trusted proxy gives the public scheme (http or https).";
            cost "None.";
            at_limit "When the header is absent: https with TLS, else http.";
            metric "None.";
        port_header: Option<HeaderName> as Header = None, "MILLSTREAM_PORT_HEADER";
            purpose "Header in which a trusted proxy gives the public port.";
            cost "None.";
            at_limit "When the header is absent, the port of the host counts.";
            metric "None.";
        address_header: Option<HeaderName> as Header = None, "MILLSTREAM_ADDRESS_HEADER";
            purpose "Header in which a trusted proxy gives the client's address. Without it the \
                socket's address counts.";
            cost "None.";
            at_limit "A missing, empty or oversized header falls back to the socket's address.";
            metric "None.";
        xff_depth: u32 as Small = 1, "MILLSTREAM_XFF_DEPTH";
            purpose "With address_header = x-forwarded-for: how many trusted proxies append to \
                it; 1 takes the last entry.";
            cost "None.";
            at_limit "Fewer entries than that: the socket's address.";
            metric "None.";
        unsafe_same_origin_without_host_pin: bool as Flag = false,
            "MILLSTREAM_UNSAFE_SAME_ORIGIN_WITHOUT_HOST_PIN";
            purpose "Start although same-origin compares two values that a scripted client \
                chooses both.";
            cost "Cross-site WebSocket hijacking by DNS rebinding becomes possible.";
            at_limit "Without it the server refuses to start in that configuration, except on \
                loopback, where Host must be a loopback name.";
            metric "None.";
    }

    group "Upgrades" {
        upgrade_rate_limit: u32 as Small = 10, "MILLSTREAM_UPGRADE_RATE_LIMIT";
            purpose "Upgrades per client address and window (IPv6: per /64); 0 switches the limit \
                off.";
            cost "At most 10,000 addresses are remembered, 40 bytes each.";
            at_limit "429 with Retry-After; refused attempts are not counted.";
            metric "`millstream_upgrades_total{outcome=\"rate_limited\"}`.";
        upgrade_rate_window: Duration as Span = secs(10), "MILLSTREAM_UPGRADE_RATE_WINDOW";
            purpose "Window of upgrade_rate_limit.";
            cost "None.";
            at_limit "Not applicable.";
            metric "None.";
        upgrade_concurrent_max: u32 as Small = 0, "MILLSTREAM_UPGRADE_CONCURRENT_MAX";
            purpose "Upgrades between request and 101 at a time; 0 leaves only \
                http_connections_max.";
            cost "One HTTP connection and one running hook each.";
            at_limit "503 with Retry-After: 1.";
            metric "`millstream_upgrades_total{outcome=\"over_capacity\"}`.";
        upgrade_timeout: Duration as Span = secs(10), "MILLSTREAM_UPGRADE_TIMEOUT";
            purpose "Longest time the upgrade or authenticate hook may take; 0 waits for ever.";
            cost "A waiting hook holds one HTTP connection.";
            at_limit "504; a late answer is dropped.";
            metric "`millstream_upgrades_total{outcome=\"timed_out\"}`.";
        connections_max: u32 as Small = 100_000, "MILLSTREAM_CONNECTIONS_MAX";
            purpose "Open WebSocket connections of the process.";
            cost "About 600 bytes each while idle, plus kernel buffers and one file descriptor.";
            at_limit "503 with Retry-After: 1, and not ready.";
            metric "`millstream_upgrades_total{outcome=\"over_capacity\"}`.";
    }

    group "HTTP" {
        http_connections_max: u32 as Small = 1_024, "MILLSTREAM_HTTP_CONNECTIONS_MAX";
            purpose "Connections in the HTTP phase at a time; a WebSocket leaves it with its 101.";
            cost "header_bytes_max plus about 4 KiB each, plus a body of at most 64 KiB \
                (message_bytes_max for publishes).";
            at_limit "Further ones wait in the kernel's backlog, unaccepted.";
            metric "`millstream_http_connections`.";
        header_bytes_max: usize as Bytes = 16 * KIB, "MILLSTREAM_HEADER_BYTES_MAX";
            purpose "Largest request head, at least 8 KiB.";
            cost "Held while a request is read.";
            at_limit "431 and close.";
            metric "`millstream_http_connections_ended_total{reason=\"error\"}`.";
        header_read_timeout: Duration as Span = secs(10), "MILLSTREAM_HEADER_READ_TIMEOUT";
            purpose "Time for a request head to arrive, TLS handshake and request bodies too; \
                also how long an idle HTTP connection is kept.";
            cost "A slow client holds one HTTP connection that long.";
            at_limit "The connection is closed.";
            metric "`millstream_http_connections_ended_total{reason=\"error\"}`.";
        http_connection_age_max: Duration as Span = secs(120), "MILLSTREAM_HTTP_CONNECTION_AGE_MAX";
            purpose "How long one connection may stay in the HTTP phase, however busy it is.";
            cost "A client that does not read responses holds one HTTP connection that long.";
            at_limit "The running request is finished, then the connection is closed.";
            metric "`millstream_http_connections_ended_total{reason=\"age\"}`.";
        auth_concurrent_max: u32 as Small = 256, "MILLSTREAM_AUTH_CONCURRENT_MAX";
            purpose "Auth preflights at a time.";
            cost "A body of at most 64 KiB and one running hook each.";
            at_limit "503 with Retry-After: 1, never a 4xx: clients would give up for good.";
            metric "`millstream_auth_total{outcome=\"over_capacity\"}`.";
        auth_require_origin: bool as Flag = true, "MILLSTREAM_AUTH_REQUIRE_ORIGIN";
            purpose "Guard the auth preflight against forged cross-site requests.";
            cost "None.";
            at_limit "403.";
            metric "`millstream_auth_total{outcome=\"origin_refused\"}`.";
        api_keys: ApiKeys as Keys = ApiKeys::default(), "MILLSTREAM_API_KEYS";
            purpose "Keys for POST /api/publish (Authorization: Bearer KEY), at least 16 \
                characters each; several while one is being replaced. Prefer file or environment: \
                flags are visible to other users.";
            cost "None.";
            at_limit "Without keys publishing by HTTP works only when bound to loopback.";
            metric "`millstream_publish_requests_total{outcome=\"unauthorized\"}`.";
    }

    group "Connections" {
        message_bytes_max: usize as Bytes = 16 * KIB, "MILLSTREAM_MESSAGE_BYTES_MAX";
            purpose "Largest message from a client, fragments added up; also the largest body of \
                POST /api/publish.";
            cost "That much per connection while a message is incomplete.";
            at_limit "Close 1009 (HTTP: 413).";
            metric "`millstream_violations_total`.";
        backpressure_bytes_max: usize as Bytes = MIB, "MILLSTREAM_BACKPRESSURE_BYTES_MAX";
            purpose "Bytes that may wait for one slow reader before its topics' overflow policies \
                apply.";
            cost "connections x backpressure_bytes_max in the worst case; shared, not copied, \
                while several wait for the same.";
            at_limit "The topic's policy decides; the default skips new frames.";
            metric "`millstream_hub_dropped_newest_total` and its siblings.";
        paused_bytes_max: usize as Bytes = 64 * MIB, "MILLSTREAM_PAUSED_BYTES_MAX";
            purpose "Bytes that a worker keeps aside of connections whose reading is paused \
                because the function of an upload is behind, at most 256 KiB of each.";
            cost "That much per worker.";
            at_limit "What was read is handled in spite of the pause: uploads may then fail with \
                FLOW_BACKPRESSURE.";
            metric "`millstream_kept_bytes`.";
        idle_timeout: Duration as Span = secs(120), "MILLSTREAM_IDLE_TIMEOUT";
            purpose "Silence of a client after which it is gone; 0 (never) or 8 s to 960 s. A \
                ping is sent shortly before.";
            cost "Dead connections stay that long.";
            at_limit "The connection is dropped.";
            metric "`millstream_idle_closed_total`.";
        heartbeat: bool as Flag = true, "MILLSTREAM_HEARTBEAT";
            purpose "Send a text heartbeat to connections that got nothing for keepalive_after. \
                Browsers cannot see pings and reconnect after 150 s of silence without it.";
            cost "24 bytes per quiet connection and interval.";
            at_limit "Not applicable.";
            metric "None.";
        keepalive_after: Duration as Span = secs(55), "MILLSTREAM_KEEPALIVE_AFTER";
            purpose "Quiet time before the text heartbeat, 1 s to 149 s.";
            cost "See heartbeat.";
            at_limit "Not applicable.";
            metric "None.";
    }

    group "Topics" {
        open_topics: Option<Vec<String>> as Patterns = None, "MILLSTREAM_OPEN_TOPICS";
            purpose "Topics every client may subscribe to: exact names, prefixes such as \
                `news:*`, or `*`. `auto`: `*` when bound to loopback and the application has \
                neither an upgrade hook nor streams, none otherwise.";
            cost "One comparison per pattern and subscribe.";
            at_limit "Other topics are denied unless the application's hook allows them.";
            metric "`millstream_hub_denied_total`.";
        non_ascii_topics: bool as Flag = false, "MILLSTREAM_NON_ASCII_TOPICS";
            purpose "Let clients name topics beyond printable ASCII. Look-alike names become \
                possible.";
            cost "None.";
            at_limit "Denied with INVALID_TOPIC.";
            metric "`millstream_hub_denied_total`.";
        system_topics: bool as Flag = false, "MILLSTREAM_SYSTEM_TOPICS";
            purpose "Let clients subscribe to topics that begin with `__`. They carry the \
                server's own traffic: leave it off.";
            cost "None.";
            at_limit "Denied with INVALID_TOPIC.";
            metric "`millstream_hub_denied_total`.";
        drop_oldest_topics: Option<Vec<String>> as Patterns = None, "MILLSTREAM_DROP_OLDEST_TOPICS";
            purpose "Topics of which a slow reader loses what has waited longest, instead of the \
                newest. `auto`: none.";
            cost "One comparison per pattern when a topic is first seen.";
            at_limit "Dropped frames are counted and the reader is told to reload.";
            metric "`millstream_hub_dropped_oldest_total`.";
        coalesce_topics: Option<Vec<String>> as Patterns = None, "MILLSTREAM_COALESCE_TOPICS";
            purpose "Topics of which only the newest frames wait for a slow reader. `auto`: none.";
            cost "One comparison per pattern when a topic is first seen.";
            at_limit "Dropped frames are counted and the reader is told to reload.";
            metric "`millstream_hub_dropped_coalesced_total`.";
        disconnect_topics: Option<Vec<String>> as Patterns = None, "MILLSTREAM_DISCONNECT_TOPICS";
            purpose "Topics whose slow readers are disconnected, so that they come back and \
                resume. `auto`: none.";
            cost "One comparison per pattern when a topic is first seen.";
            at_limit "The connection is dropped.";
            metric "`millstream_hub_slow_closed_total`.";
        volatile_topics: Option<Vec<String>> as Patterns = None, "MILLSTREAM_VOLATILE_TOPICS";
            purpose "Topics whose events carry no number and skip everyone who is behind, \
                silently. `auto`: none.";
            cost "One comparison per pattern when a topic is first seen.";
            at_limit "Skipped frames are counted.";
            metric "`millstream_hub_dropped_volatile_total`.";
    }

    group "TLS" {
        tls_cert: Option<PathBuf> as File = None, "MILLSTREAM_TLS_CERT";
            purpose "PEM file with the certificate chain; read again on SIGHUP.";
            cost "About 20 KiB per open TLS connection.";
            at_limit "Start fails when it cannot be read; a failed reload keeps the old one.";
            metric "`millstream_tls_reloads_total`.";
        tls_key: Option<PathBuf> as File = None, "MILLSTREAM_TLS_KEY";
            purpose "PEM file with the private key; read again on SIGHUP.";
            cost "None.";
            at_limit "Start fails when it cannot be read or does not fit the certificate.";
            metric "`millstream_tls_reloads_total`.";
    }

    group "Stopping" {
        shutdown_delay: Duration as Span = Duration::ZERO, "MILLSTREAM_SHUTDOWN_DELAY";
            purpose "Time between SIGTERM and the drain in which the server is not ready but \
                still accepts, so that balancers notice.";
            cost "A longer stop.";
            at_limit "Not applicable.";
            metric "`/readyz` answers 503.";
        drain_spread: Duration as Span = secs(5), "MILLSTREAM_DRAIN_SPREAD";
            purpose "Connections are closed (1001) evenly over this time, so that not all clients \
                come back at once.";
            cost "A longer stop.";
            at_limit "Not applicable.";
            metric "`millstream_connections`.";
        drain_deadline: Duration as Span = secs(30), "MILLSTREAM_DRAIN_DEADLINE";
            purpose "Longest drain.";
            cost "A longer stop.";
            at_limit "What is left is dropped. A second signal does the same at once.";
            metric "The log line at the end.";
    }

    group "Logs" {
        log_filter: String as Text = "info".to_owned(), "MILLSTREAM_LOG_FILTER";
            purpose "What is logged to standard error, such as `info` or \
                `info,millstream_server=debug`.";
            cost "debug writes a line per request.";
            at_limit "Not applicable.";
            metric "None.";
        log_format: LogFormat as Format = LogFormat::Text, "MILLSTREAM_LOG_FORMAT";
            purpose "`text` for people, `json` for machines.";
            cost "None.";
            at_limit "Not applicable.";
            metric "None.";
    }

    nested pressure: PressureConfig, PressureLayer,
        "When the server says that it is under pressure.";
    nested limits: LimitsConfig, LimitsLayer, "Bounds of the hub.";
}

knobs! {
    /// When the server says that it is under pressure. TOML table `[pressure]`.
    PressureConfig, PressureLayer, table "pressure";

    group "Pressure" {
        sample_interval: Duration as Span = secs(1), "MILLSTREAM_SAMPLE_INTERVAL";
            purpose "How often pressure is measured, at least 100 ms.";
            cost "A few microseconds per worker.";
            at_limit "Not applicable.";
            metric "`millstream_pressure`.";
        memory_ratio: Option<f64> as Ratio = Some(0.85), "MILLSTREAM_MEMORY_RATIO";
            purpose "Share of the memory limit (cgroup or machine) in use that means MEMORY; \
                `off` disables it.";
            cost "One small file read per sample.";
            at_limit "Only a signal: the application decides.";
            metric "`millstream_pressure`.";
        publish_rate: Option<u64> as Threshold = Some(10_000), "MILLSTREAM_PUBLISH_RATE";
            purpose "Publishes per second that mean PUBLISH_RATE; `off` disables it.";
            cost "None.";
            at_limit "Only a signal.";
            metric "`millstream_pressure`.";
        subscriber_ratio: Option<u64> as Threshold = Some(50), "MILLSTREAM_SUBSCRIBER_RATIO";
            purpose "Subscriptions per connection that mean SUBSCRIBERS; `off` disables it.";
            cost "None.";
            at_limit "Only a signal.";
            metric "`millstream_pressure`.";
        topic_publish_rate: Option<u64> as Threshold = Some(5_000), "MILLSTREAM_TOPIC_PUBLISH_RATE";
            purpose "Messages per second of one topic that are reported; `off` disables it.";
            cost "One counter per published topic.";
            at_limit "Only a signal.";
            metric "`millstream_pressure`.";
        topic_publish_bytes_rate: Option<u64> as Threshold = Some(10 * 1_024 * 1_024),
            "MILLSTREAM_TOPIC_PUBLISH_BYTES_RATE";
            purpose "Bytes per second of one topic that are reported; `off` disables it.";
            cost "One counter per published topic.";
            at_limit "Only a signal.";
            metric "`millstream_pressure`.";
    }
}

knobs! {
    /// Bounds of the hub. TOML table `[limits]`.
    LimitsConfig, LimitsLayer, table "limits";

    group "Limits" {
        subscriptions_max: u32 as Small = 1_000_000, "MILLSTREAM_SUBSCRIPTIONS_MAX";
            purpose "Topics one connection may hold.";
            cost "About 40 bytes each.";
            at_limit "Denied with RATE_LIMITED.";
            metric "`millstream_hub_denied_total`.";
        topics_max: u32 as Small = 1_000_000, "MILLSTREAM_TOPICS_MAX";
            purpose "Topics remembered by the process.";
            cost "About 200 bytes each.";
            at_limit "The oldest without subscribers is forgotten; when all have some, 503 or \
                RATE_LIMITED.";
            metric "`millstream_hub_topics_evicted_total`, `millstream_hub_topics_refused_total`.";
        batch_topics_max: u32 as Small = 256, "MILLSTREAM_BATCH_TOPICS_MAX";
            purpose "Entries of one subscribe-batch that are looked at.";
            cost "One hook call each.";
            at_limit "The rest is ignored.";
            metric "None.";
        pending_topics_max: u32 as Small = 1_024, "MILLSTREAM_PENDING_TOPICS_MAX";
            purpose "Topics of one connection whose subscribe waits for a verdict.";
            cost "One running hook each.";
            at_limit "Denied with RATE_LIMITED.";
            metric "`millstream_hub_denied_total`.";
        parked_topics_max: u32 as Small = 256, "MILLSTREAM_PARKED_TOPICS_MAX";
            purpose "Topics of one connection whose denial waits, because a stream may open them. \
                As many streams outlive an unsubscribe that comes while they are loaded.";
            cost "About 60 bytes and the topic's name each for parked_hold.";
            at_limit "Denied with FORBIDDEN at once; further streams end with the unsubscribe.";
            metric "`millstream_hub_parked_total`, `millstream_hub_parked_granted_total`, \
                `millstream_hub_parked_refused_total`.";
        parked_hold: Duration as Span = secs(2), "MILLSTREAM_PARKED_HOLD";
            purpose "How long such a denial waits; `0s` denies at once. Also how long, from the \
                reply on, a client may take to ask for a topic that it has left while its stream \
                was loaded. Only where clients get topics through streams.";
            cost "See parked_topics_max.";
            at_limit "Denied with FORBIDDEN; what nobody asked for ends.";
            metric "`millstream_hub_denied_total`, `millstream_hub_doubts_ended_total`.";
        backlog_pieces_max: usize as Bytes = 16_384, "MILLSTREAM_BACKLOG_PIECES_MAX";
            purpose "Unsent pieces of one connection, beside backpressure_bytes_max.";
            cost "About 40 bytes each.";
            at_limit "As backpressure_bytes_max.";
            metric "`millstream_hub_dropped_newest_total` and its siblings.";
        control_bytes_max: usize as Bytes = 256 * KIB, "MILLSTREAM_CONTROL_BYTES_MAX";
            purpose "Unsent control frames and replies past backpressure_bytes_max.";
            cost "That much per slow connection.";
            at_limit "Close 1013.";
            metric "`millstream_hub_slow_closed_total`.";
        turn_bytes_max: usize as Bytes = MIB, "MILLSTREAM_TURN_BYTES_MAX";
            purpose "Output collected in one turn of a worker before it is flushed.";
            cost "That much per worker.";
            at_limit "Flushed early.";
            metric "None.";
        coalesce_keys_max: u32 as Small = 1_000_000, "MILLSTREAM_COALESCE_KEYS_MAX";
            purpose "Coalesced sends waiting for one connection.";
            cost "Key and value each, bounded by coalesce_bytes_max.";
            at_limit "The oldest makes room.";
            metric "`millstream_hub_dropped_coalesced_total`.";
        coalesce_bytes_max: usize as Bytes = MIB, "MILLSTREAM_COALESCE_BYTES_MAX";
            purpose "Bytes of coalesced sends waiting for one connection.";
            cost "That much per slow connection.";
            at_limit "The oldest makes room.";
            metric "`millstream_hub_dropped_coalesced_total`.";
        hold_bytes_max: usize as Bytes = 256 * KIB, "MILLSTREAM_HOLD_BYTES_MAX";
            purpose "Bytes held back for one connection and topic between subscribe and first \
                value.";
            cost "That much per loading stream.";
            at_limit "The rest is dropped and the client is told of the gap.";
            metric "`millstream_hub_dropped_held_total`.";
        requests_max: u32 as Small = 1_000_000, "MILLSTREAM_REQUESTS_MAX";
            purpose "Server-to-client requests waiting on one connection.";
            cost "About 60 bytes each.";
            at_limit "One more fails at once.";
            metric "`millstream_hub_requests_refused_total`.";
        request_timeout: Duration as Span = secs(5), "MILLSTREAM_REQUEST_TIMEOUT";
            purpose "How long such a request waits when the caller does not say.";
            cost "None.";
            at_limit "It fails.";
            metric "`millstream_hub_requests_timed_out_total`.";
        resume_topics_max: u32 as Small = 10_000, "MILLSTREAM_RESUME_TOPICS_MAX";
            purpose "Topics of a resume whose positions are remembered.";
            cost "About 80 bytes each for resume_hold.";
            at_limit "The rest counts as never seen.";
            metric "None.";
        resume_hold: Duration as Span = secs(30), "MILLSTREAM_RESUME_HOLD";
            purpose "How long those positions wait for the client to subscribe.";
            cost "See resume_topics_max.";
            at_limit "They are forgotten.";
            metric "None.";
        retained_bytes_max: usize as Bytes = 64 * MIB, "MILLSTREAM_RETAINED_BYTES_MAX";
            purpose "Bytes of the events that all topics keep for those who come back.";
            cost "That much per process.";
            at_limit "The topic written to least recently loses its oldest; who needs them \
                reloads.";
            metric "`millstream_hub_retained_evicted_total`.";
        batch_members_max: u32 as Small = 4_096, "MILLSTREAM_BATCH_MEMBERS_MAX";
            purpose "Members of one batched publish.";
            cost "The frame that holds them.";
            at_limit "The publish is refused.";
            metric "None.";
    }
}
