package dockerapi

import (
	"encoding/json"
	"net/http"

	"github.com/sockerless/sockerless"
)

func (a *api) containerStats(w http.ResponseWriter, r *request) error {
	opt := sockerless.StatsOptions{Stream: true}
	if r.query.Has("stream") {
		opt.Stream = r.flag("stream")
	}
	if !r.version.before(41) {
		opt.OneShot = r.flag("one-shot")
	}
	out := newStream(w, "application/json")
	defer out.end()
	enc := json.NewEncoder(out)
	for v, err := range a.backend.Containers.Stats(r.Context(), r.name, opt) {
		switch {
		case err != nil:
		case v == nil:
			err = out.start()
		default:
			err = enc.Encode(v)
		}
		if err != nil {
			return err
		}
	}
	return out.start()
}
