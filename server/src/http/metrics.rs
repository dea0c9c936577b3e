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
    }
}
