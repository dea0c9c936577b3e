//! The metrics of the HTTP server for clients in browsers, all written by its thread.

whimbrel_stats::metrics! {
    /// Connections until they are WebSocket, and requests.
    WebMetrics {
        connections "http.connections" Gauge "connections" "Open connections to the HTTP server, without those that are WebSocket.";
        requests "http.requests" Counter "requests" "Requests to the HTTP server.";
        refused "http.refused" Counter "requests" "Connections and requests refused by its limits (http.*), and heads that cannot be read.";
        displaced "http.displaced" Counter "connections" "Connections that waited for their client and were closed to make room for another.";
        handshakes "http.websocket.handshakes" Counter "connections" "WebSocket handshakes that succeeded; the connections go to the workers.";
        handshakes_malformed "http.websocket.malformed" Counter "requests" "WebSocket handshakes against RFC 6455, or without the subprotocol xmpp.";
        handshakes_origin "http.websocket.origin" Counter "requests" "WebSocket handshakes of pages that may not (http.allowed_origins).";
        handshakes_busy "http.websocket.busy" Counter "requests" "WebSocket handshakes refused for want of memory, or because too many wait for a worker.";
        bosh_sessions "http.bosh.sessions" Gauge "sessions" "Sessions of BOSH. Each has a connection to a worker, which counts it in websocket.connections.";
        bosh_bytes "http.bosh.bytes" Gauge "bytes" "Bytes that sessions of BOSH and requests under way hold (http.bosh_mib).";
        bosh_begun "http.bosh.begun" Counter "sessions" "Sessions of BOSH that were begun.";
        bosh_repeated "http.bosh.repeated" Counter "requests" "Requests of BOSH that came again because their answer was lost.";
        bosh_inactive "http.bosh.inactive" Counter "sessions" "Sessions of BOSH whose client stayed away for too long.";
        bosh_broken "http.bosh.broken" Counter "sessions" "Sessions of BOSH that ended because of a request against the rules: outside of the window, with a wrong key, or too soon.";
        bosh_unknown "http.bosh.unknown" Counter "requests" "Requests of BOSH for a session that there is not.";
        bosh_malformed "http.bosh.malformed" Counter "requests" "Requests of BOSH that cannot be read.";
        bosh_origin "http.bosh.origin" Counter "requests" "Requests of BOSH from pages that may not (http.allowed_origins).";
        bosh_busy "http.bosh.busy" Counter "requests" "Requests of BOSH refused because there are http.bosh_sessions, too many wait for a worker, or memory is short (http.bosh_mib).";
    }
}
