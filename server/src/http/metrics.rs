//! The metrics of the HTTP server for clients in browsers, all written by its thread, and those of uploads.

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
        bosh_displaced "http.bosh.displaced" Counter "sessions" "Sessions of BOSH that had not logged in and gave up their place for another address, when there were http.bosh_sessions.";
        bosh_repeated "http.bosh.repeated" Counter "requests" "Requests of BOSH that came again because their answer was lost.";
        bosh_inactive "http.bosh.inactive" Counter "sessions" "Sessions of BOSH whose client stayed away for too long.";
        bosh_broken "http.bosh.broken" Counter "sessions" "Sessions of BOSH that ended because of a request against the rules: outside of the window, with a wrong key, or too soon.";
        bosh_unknown "http.bosh.unknown" Counter "requests" "Requests of BOSH for a session that there is not.";
        bosh_malformed "http.bosh.malformed" Counter "requests" "Requests of BOSH that cannot be read.";
        bosh_origin "http.bosh.origin" Counter "requests" "Requests of BOSH from pages that may not (http.allowed_origins).";
        bosh_busy "http.bosh.busy" Counter "requests" "Requests of BOSH refused because there are http.bosh_sessions, too many wait for a worker, or memory is short (http.bosh_mib).";
    }
}

whimbrel_stats::metrics! {
    /// Uploads and downloads (XEP-0363), written by the thread of the HTTP server; what is there, by the stats thread; what has
    /// ended, by the thread that ends it.
    UploadMetrics {
        transfers "upload.transfers" Gauge "transfers" "Uploads and downloads that are under way (upload.transfers_max).";
        stored "upload.stored" Counter "files" "Files that were uploaded.";
        received "upload.received" Counter "bytes" "Bytes of uploads, those that were broken off included.";
        served "upload.served" Counter "requests" "Files, or parts of them, that downloads have begun with.";
        sent "upload.sent" Counter "bytes" "Bytes of downloads, as they were handed to connections.";
        broken "upload.broken" Counter "transfers" "Uploads that ended in the middle: the client has gone, or was too slow.";
        refused_url "upload.refused.url" Counter "requests" "Uploads refused: the URL was given for none, or its time is over.";
        refused_slot "upload.refused.slot" Counter "requests" "Uploads refused: the slot has its file, or has it coming, or has ended.";
        refused_unlike "upload.refused.unlike" Counter "requests" "Uploads refused: another length or type than the slot's.";
        refused_busy "upload.refused.busy" Counter "requests" "Uploads and downloads refused: upload.transfers_per_address, or no thread or no room in the directory's queue.";
        refused_disk "upload.refused.disk" Counter "requests" "Uploads refused or broken off: no room on the disk (upload.mib_left_free), or it has failed; or the object store has (upload.s3).";
        ended "upload.ended" Counter "uploads" "Files whose time is over (upload.keep_days), and slots that were not used.";
        erased "upload.erased" Counter "files" "Uploads whose bytes were removed from the disk.";
        files "upload.files" Gauge "files" "Files that are kept.";
        bytes "upload.bytes" Gauge "bytes" "Bytes of them (upload.mib_max).";
        slots "upload.slots" Gauge "slots" "Slots that wait for their files.";
        s3_requests "upload.s3.requests" Counter "requests" "Requests to the object store (upload.s3), each attempt.";
        s3_failed "upload.s3.failed" Counter "requests" "Those that failed: no answer, or one that says so.";
        s3_aborted "upload.s3.aborted" Counter "uploads" "Uploads to the object store in parts that were given up, and their parts forgotten there.";
        s3_held "upload.s3.held" Gauge "bytes" "Memory of uploads on their way to the object store (upload.s3.memory_mib).";
        erasures "upload.erasures" Gauge "files" "Uploads that have ended and whose bytes are to be removed from the disk.";
    }
}
