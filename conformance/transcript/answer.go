//go:build linux

package transcript

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Answer is what a host said to a call, with words for what is another each time: $NAME for what was kept, ID, TIME, SPAN,
// and N for a number that is not 0.
type Answer struct {
	Call   string
	Status int
	Header map[string]any
	// Body is a JSON value; a list of those of a stream; of the frames of multiplexed output, where pieces of the same
	// stream are put together; of the entries of a tar; or a text.
	Body any `json:",omitempty"`
}

// headers are those that clients read.
var headers = []string{
	"Api-Version", "Builder-Version", "Cache-Control", "Connection", "Content-Type", "Docker-Experimental", "Expires", "Location",
	"Ostype", "Pragma", "Server", "Swarm", "Upgrade", "Warning", "Www-Authenticate", "X-Registry-Auth",
}

const statHeader = "X-Docker-Container-Path-Stat"

func (p *player) answer(c Call, resp *http.Response, body func() ([]byte, error)) (Answer, error) {
	raw, err := body()
	if err != nil {
		return Answer{}, err
	}
	if err := p.keep(c, raw); err != nil {
		return Answer{}, err
	}
	a := Answer{Call: c.Name, Status: resp.StatusCode, Header: map[string]any{}}
	for _, name := range headers {
		if v := resp.Header.Get(name); v != "" {
			a.Header[name] = p.same(v)
		}
	}
	if stat := resp.Header.Get(statHeader); stat != "" {
		text, err := base64.StdEncoding.DecodeString(stat)
		if err != nil {
			return Answer{}, err
		}
		v, err := values(text)
		if err != nil {
			return Answer{}, err
		}
		a.Header[statHeader] = p.plain("", v[0])
	}
	a.Header["Length"] = length(resp)
	a.Body, err = p.body(c, resp, raw)
	return a, err
}

// length says how a client learns where the body ends.
func length(resp *http.Response) string {
	switch {
	case len(resp.TransferEncoding) > 0:
		return "chunked"
	case resp.ContentLength > 0:
		return "known"
	case resp.ContentLength == 0:
		return "0"
	}
	return "until the end"
}

func (p *player) body(c Call, resp *http.Response, raw []byte) (any, error) {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	switch {
	case len(raw) == 0:
		return nil, nil
	case bytes.HasSuffix(raw, []byte(goesOn)):
		return p.same(string(raw)), nil
	case kind == "application/json":
		vs, err := values(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: %q", err, raw)
		}
		var v any = vs
		if len(vs) == 1 {
			v = vs[0]
		}
		return sorted(c.Sorted, shaped(c.Shape, dropped(c.Drop, p.plain("", v)))), nil
	case kind == "application/x-tar" || c.Only != nil:
		return p.entries(c, raw)
	}
	if frames := p.frames(raw); frames != nil {
		return frames, nil
	}
	return p.same(string(raw)), nil
}

// values decodes JSON values, one behind the other.
func values(raw []byte) ([]any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	for all := []any(nil); ; {
		var v any
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
}

// frames takes multiplexed output apart; nil if it is not that.
func (p *player) frames(raw []byte) (out []any) {
	last, text := byte(0), ""
	flush := func() {
		if text != "" {
			out = append(out, map[string]any{"stream": json.Number(fmt.Sprint(last)), "text": p.same(text)})
		}
		text = ""
	}
	for len(raw) > 0 {
		if len(raw) < 8 || raw[0] > 3 || raw[1] != 0 || raw[2] != 0 || raw[3] != 0 {
			return nil
		}
		n := int(binary.BigEndian.Uint32(raw[4:]))
		if len(raw) < 8+n {
			return nil
		}
		if raw[0] != last {
			flush()
		}
		last, text = raw[0], text+string(raw[8:8+n])
		raw = raw[8+n:]
	}
	flush()
	return out
}

// entries lists a tar.
func (p *player) entries(c Call, raw []byte) (any, error) {
	list := []any{}
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("%w: %q", err, raw[:min(len(raw), 200)])
		}
		if c.Only != nil && !c.Only.MatchString(h.Name) {
			continue
		}
		content, err := io.ReadAll(io.LimitReader(r, 1000))
		if err != nil {
			return nil, err
		}
		list = append(list, map[string]any{
			"name": h.Name, "type": string(h.Typeflag), "mode": fmt.Sprintf("%o", h.Mode), "owner": fmt.Sprintf("%d:%d", h.Uid, h.Gid),
			"link": h.Linkname, "content": string(content),
		})
	}
}

var (
	longID  = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	shortID = regexp.MustCompile(`\b[0-9a-f]{12}\b`)
	instant = regexp.MustCompile(`\b(000[2-9]|[12]\d\d\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	span    = regexp.MustCompile(`\b(Less than a second|About an? \w+|\d+ (seconds?|minutes?))\b`)
	root    = regexp.MustCompile(`/\S*/overlay2/\w+/merged`)
	// What dockerd keeps lies in its folders; addresses it deals out as they come.
	data = regexp.MustCompile(`[^\s"]*/dockerd(-exec)?/`)
	ip   = regexp.MustCompile(`\b172\.\d+\.\d+\.\d+\b`)
	mac  = regexp.MustCompile(`\b02:42(:[0-9a-f]{2}){4}\b`)
	// counts are numbers that are another each time, or on each machine. The fields of all answers are meant.
	counts = []string{
		"Created", "LastTagTime", "LayersSize", "Pid", "Size", "SizeRootFs", "SizeRw", "SpaceReclaimed", "VirtualSize", "size", "time", "timeNano", "mtime",
	}
)

// same replaces what is another each time in a text.
func (p *player) same(text string) string {
	for _, v := range slices.Backward(p.vars) {
		if len(v.value) < 12 {
			continue // a port, a number: it would be found everywhere
		}
		text = strings.ReplaceAll(text, v.value, "$"+v.name)
		if longID.MatchString(v.value) {
			text = strings.ReplaceAll(text, v.value[:12], "$"+v.name)
		}
	}
	text = longID.ReplaceAllString(text, "ID")
	text = shortID.ReplaceAllString(text, "ID")
	text = root.ReplaceAllString(text, "ROOT")
	text = data.ReplaceAllString(text, "DATA/")
	text = ip.ReplaceAllString(text, "IP")
	text = mac.ReplaceAllString(text, "MAC")
	text = instant.ReplaceAllString(text, "TIME")
	return span.ReplaceAllString(text, "SPAN")
}

// plain is same for a decoded value, which stands in a field of a name.
func (p *player) plain(name string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, member := range v {
			out[p.same(key)] = p.plain(key, member)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = p.plain(name, v[i])
		}
		return out
	case string:
		return p.same(v)
	case json.Number:
		if v != "0" && v != "-1" && slices.Contains(counts, name) {
			return "N"
		}
	}
	return v
}

// dropped leaves fields out.
func dropped(fields []string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, member := range v {
			if slices.Contains(fields, key) {
				delete(v, key)
			} else {
				dropped(fields, member)
			}
		}
	case []any:
		for _, member := range v {
			dropped(fields, member)
		}
	}
	return v
}

func sorted(really bool, v any) any {
	if list, ok := v.([]any); ok && really {
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(text(a), text(b)) })
	}
	return v
}

// shaped reduces fields of a body to their shape.
func shaped(fields []string, v any) any {
	if slices.Contains(fields, ".") {
		return shape(v)
	}
	switch v := v.(type) {
	case map[string]any:
		for key, member := range v {
			if slices.Contains(fields, key) {
				v[key] = shape(member)
			} else {
				shaped(fields, member)
			}
		}
	case []any:
		for _, member := range v {
			shaped(fields, member)
		}
	}
	return v
}

// shape keeps the names of members and the kinds of values. Of a list's elements, each shape is kept once.
func shape(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, member := range v {
			out[key] = shape(member)
		}
		return out
	case []any:
		out, seen := []any{}, map[string]bool{}
		for _, member := range v {
			s := shape(member)
			b, err := json.Marshal(s)
			if err == nil && !seen[string(b)] {
				seen[string(b)] = true
				out = append(out, s)
			}
		}
		return out
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return "a boolean"
	}
	return v
}
