package link

import (
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// A proxy on the way may ping by itself; the hub answers, and the link goes on.
func TestWebSocketPing(t *testing.T) {
	h, s := newTestHub(t, Options{})
	c := byHand(t, s, protocolPlain)
	claimByHand(t, c, "run-1", goodSecret, claim{fresh: true, token: newToken(), epoch: 1})
	l, err := h.Accept(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	pong := make(chan string, 1)
	c.msgs.ws.SetPongHandler(func(data string) error { pong <- data; return nil })
	go func() { _, _, _ = c.msgs.ws.ReadMessage(); _, _, _ = c.msgs.ws.ReadMessage() }() // ends with the carrier at the latest
	if err := c.msgs.ws.WriteControl(websocket.PingMessage, []byte("there?"), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-pong:
		if got != "there?" {
			t.Errorf("pong %q", got)
		}
	case <-time.After(time.Minute):
		t.Error("no pong")
	}
	if !l.Connected() {
		t.Error("the ping cut the carrier")
	}
}

func TestTextMessageCutsTheCarrier(t *testing.T) {
	h, s := newTestHub(t, Options{})
	c := byHand(t, s, protocolPlain)
	claimByHand(t, c, "run-1", goodSecret, claim{fresh: true, token: newToken(), epoch: 1})
	l, err := h.Accept(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.msgs.ws.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return !l.Connected() })
	if err := l.Err(); err != nil {
		t.Errorf("and ended the link: %v", err)
	}
}
