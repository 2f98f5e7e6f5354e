// Package link is one authenticated, resumable, multiplexed connection between two ends.
//
// Agents and backends, frontends and backends talk over a [Link]: one end dials ([Dial]), the other serves
// an HTTP route ([Hub]); after the handshake nobody can tell who did which. A link outlives its carrier: when
// the connection under it is cut, the dialling end connects again and both ends go on at the byte where they were.
// Streams on a link are plain [net.Conn]s, so net/http runs on them: a *Link is a [net.Listener], and
// Link.Open is a Transport's DialContext.
//
// # Layers
//
//	streams        net/http elsewhere
//	messages       streams, and a window for each
//	resumable      numbered bytes, replayed on a new carrier
//	TLS 1.3        exactly once: that of an https URL, else one of our own with ephemeral certificates
//	WebSocket      binary messages over HTTP/1.1, what load balancers and proxies let through
//
// With an http URL the TLS runs inside the WebSocket messages and nobody verifies its certificate: the proof
// below covers the TLS exporter's value, so whoever sits in the middle fails it. With an https URL the
// certificate is verified as usual, a proxy may end that TLS, and the proof covers the nonces alone.
//
// # Upgrade
//
// The dialling end offers one WebSocket subprotocol, which says the version of everything below and where
// the TLS is: "link2.tls.sockerless" (inside) or "link2.sockerless" (the URL's). A hub that knows
// neither answers 400 with the header "Sockerless-Link: 2"; a hub with too many handshakes in flight ends the oldest one
// if that has had a second, else it answers 503 before it upgrades. A request with an Origin header comes from a browser and is refused.
// The message boundaries of the WebSocket mean nothing; what follows is a byte stream each way.
//
// # Handshake
//
// Four messages, each a 16-bit length (big endian, as all numbers here; at most 4096) and a body:
//
//	1  dialler  version(1)=2  nonce(32)  id(the rest, at most 256)
//	2  hub      version(1)=2  nonce(32)
//	3  dialler  mac(32)  fresh(1)  token(16)  epoch(8)  received(8)  hello(JSON, at most 2048)
//	4  hub      status(1)  mac(32)  received(8)  hello(JSON, at most 2048)
//
// mac is HMAC-SHA256 under the id's 32-byte secret over a label ("sockerless link 2 dialler" or "... hub")
// and these fields, each behind a 32-bit length: TLS inside or not, the dialler's role, the hub's role, id,
// both nonces, the exporter's value (label "EXPORTER-sockerless-link", 32 bytes; empty without a TLS of our own),
// and the rest of message 3; in message 4 also its status and the rest of it. Roles are not sent: each end uses
// its own and the one that it expects.
//
// token names the link: random, chosen by the dialler, so that a first connection whose answer was lost is
// the same link when it is tried again (fresh is 1 until an answer has come). epoch counts the dialler's
// attempts; a hub takes only a higher one than it has seen, which fences a stale carrier. received is how many bytes
// of the resumable stream have been delivered here; the other end goes on with the byte after them.
// Before an end states it, it has closed its old carrier and delivered what it had read from it.
//
// status: 0 go on; 1 refused (unknown id or wrong proof, which look alike; the mac is zero and nothing follows);
// 2 there is no such link, it has ended here; 3 the epoch is stale; 4 busy, try again later. 0, 3 and 4 are not
// for ever, 1 and 2 are.
//
// # Frames
//
// Each way, after the handshake:
//
//	type(1)  length(4)  seq(8)  ack(8)  payload(length)
//
// type 1 data: seq is the number of its first byte, length at most 262144. 2 ack. 3 ping, answered with 4 pong.
// 5 bye: this end closes the link, nothing follows, and the other answers with its own bye. All but data
// have length 0. ack is how many bytes have been delivered at the sender of the frame; a sender keeps all
// bytes above the highest ack it was told, at most 4 MiB. An ack is sent after 512 KiB or 256 frames, or 200 ms.
// Pings are frames and not WebSocket pings, so that it is the peer who answers and not a proxy. A carrier that is silent after a
// ping, or that takes no more, is cut (Options.KeepAlive).
//
// # Messages
//
// The bytes of the resumable stream are messages:
//
//	type(1)  stream(4)  value(4)  data
//
// type 1 open: a new stream; the dialler's ids are odd and the hub's even, each higher than the one before. 2 data: value
// bytes follow, 1 to 131136. 3 window: its sender takes value bytes more on this stream than it has said so far, beginning with
// 393216 both ways, and never more than 1 GiB ahead. 4 end: its sender has no more data. 5 reset: both ways are over, and what is
// in them is lost. All but data and window have the value 0. What comes for a stream that is over is dropped;
// what comes for one that was never opened, or more data than there is window for, ends the link.
//
// A receiver opens a window again when half of it has been read, and doubles it if that took less than a round trip, or to 1 MiB if less than 2 ms
// (Options.MaxWindow, WindowBudget). Who writes to a stream writes to the carrier in the same goroutine, unless another one is
// at that, so that a message costs no hand-over; and what is kept for a replay is the one copy that is made of it.
//
// # What others can cost
//
// Without a proof: one of 256 places for five seconds at most (Options.MaxHandshakes, HandshakeTimeout), 4 KiB a message, a
// line in the log every ten seconds, and a count in HubStats.
//
// With one, a link: about 55 KiB of a hub's memory while it is idle; at most 4 MiB of what was sent and is not acknowledged
// (ReplayBuffer), and 1 MiB of answers that carry no data; 384 KiB for each stream, twice that of messages that do not fill their
// buffers; what windows grow by, until what came is read, 32 MiB for a link (WindowBudget) and 512 MiB for all links of a hub
// (HubBudget). An id has 64 links (MaxLinks). An agent opens no streams at a backend (MaxStreams). A link that is cut
// costs the same until the resume window is over.
package link
