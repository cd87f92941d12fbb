// Every bound of this client, with its unit. The README's table says what happens at each.

/** Longest inbound text message, in UTF-16 code units. Longer ones are dropped unread. */
export const MESSAGE_UNITS_MAX = 1_048_576;
/** Longest topic name, in UTF-16 code units. */
export const TOPIC_UNITS_MAX = 256;
/** Topics with a reader at one time. */
export const TOPICS_MAX = 100_000;
/** Topics in one subscribe-batch frame. Servers read 256. */
export const BATCH_TOPICS_MAX = 200;
/** Bytes of one subscribe-batch frame. Servers take control frames of fewer than 8,192 bytes. */
export const BATCH_BYTES_MAX = 8_000;
/** Bytes of the resume frame, unless an option says otherwise. */
export const RESUME_BYTES_MAX = 8_191;
/** Topics whose newest number is remembered for the resume frame. */
export const POSITIONS_MAX = 10_000;
/** Messages that wait for a connection, and their size. */
export const QUEUE_MAX = 1_000;
export const QUEUE_BYTES_MAX = 64 * 1024 * 1024;
/** Questions of the server that are being answered at one time. */
export const REQUESTS_MAX = 1_000;
/** Topics whose mark of missed events waits for the page's next frame. */
export const MARKS_MAX = 1_000;
/** Entries a `crud` list or a `lookup` map holds, unless an option says otherwise. */
export const ENTRIES_MAX = 100_000;
/** Events a `latest` list holds, unless an argument says otherwise. */
export const LATEST_DEFAULT = 50;

/** Milliseconds without a message after which an open connection counts as dead. */
export const SILENCE_MS = 150_000;
/** How often the silence is looked at. */
export const SILENCE_CHECK_MS = 30_000;
/** Milliseconds an attempt to connect may take. */
export const OPEN_TIMEOUT_MS = 30_000;
/** A connection that lived shorter and carried no event does not reset the reconnect delay. */
export const HEALTHY_AFTER_MS = 1_000;
/** Milliseconds after which what waits for the page's next frame does so no longer. */
export const FRAME_MAX_MS = 1_000;
/** First delay and largest delay between attempts, before the jitter. */
export const RECONNECT_MS = 3_000;
export const RECONNECT_MAX_MS = 300_000;
/** Attempt that a close with 4429 counts as, at least. */
export const THROTTLE_ATTEMPT = 5;
/** Longest delay a timer can be set to. */
export const TIMER_MAX_MS = 2_147_483_647;
