//go:build linux

package transcript

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/sockerless/sockerless/conformance/host"
)

const (
	// callTime bounds one call, and how long one is repeated. It is for what hangs.
	callTime = time.Minute
	// maxAnswer bounds how much of an answer is read.
	maxAnswer = 64 << 20
)

// goesOn stands behind an answer that was left.
const goesOn = "and goes on"

// ImageName is that of the image that the calls find as $IMAGE, which the caller imports.
const ImageName = "sockerless-conformance:1"

// Play holds a conversation with a host. It removes what it finds there before, and what it leaves.
func Play(ctx context.Context, h *host.Host, s Script) (_ []Answer, err error) {
	if err := clean(ctx, h.Client); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, clean(context.WithoutCancel(ctx), h.Client)) }()
	img, err := h.Client.ImageInspect(ctx, ImageName)
	if err != nil {
		return nil, err
	}
	p := &player{
		addr: strings.TrimPrefix(h.Addr, "unix://"),
		vars: []variable{{"IMAGE", ImageName}, {"IMAGE_ID", strings.TrimPrefix(img.ID, "sha256:")}, {"START", now()}},
	}
	answers := make([]Answer, len(s.Calls))
	var behind []func() error
	for i, c := range s.Calls {
		read, err := p.call(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", s.Name, c.Name, err)
		}
		finish := func() error {
			if answers[i], err = read(); err != nil {
				return fmt.Errorf("%s: %s: %w", s.Name, c.Name, err)
			}
			return nil
		}
		if c.Behind {
			behind = append(behind, finish)
		} else if err := finish(); err != nil {
			return nil, err
		}
	}
	for _, finish := range behind {
		if err := finish(); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

type player struct {
	addr string
	vars []variable
}

type variable struct{ name, value string }

// call asks and returns once the headers have come. What it returns reads the rest.
func (p *player) call(ctx context.Context, c Call) (read func() (Answer, error), err error) {
	for end := time.Now().Add(callTime); ; time.Sleep(50 * time.Millisecond) {
		resp, body, err := p.ask(ctx, c) //nolint:bodyclose // its connection is closed when body has been read
		if err != nil {
			return nil, err
		}
		if c.Until[0] == "" {
			return func() (Answer, error) { return p.answer(c, resp, body) }, nil
		}
		raw, err := body()
		if err != nil {
			return nil, err
		}
		got := at(raw, c.Until[0])
		if got == p.filled(c.Until[1]) {
			return func() (Answer, error) { return p.answer(c, resp, func() ([]byte, error) { return raw, nil }) }, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%s is %q and never %q: %d %s", c.Until[0], got, c.Until[1], resp.StatusCode, raw)
		}
	}
}

// ask sends one request on a connection of its own.
func (p *player) ask(ctx context.Context, c Call) (*http.Response, func() ([]byte, error), error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", p.addr)
	if err != nil {
		return nil, nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(callTime)); err != nil {
		return nil, nil, err
	}
	req, err := p.request(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if err := req.Write(conn); err != nil {
		return nil, nil, err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	body := resp.Body
	if resp.StatusCode == http.StatusSwitchingProtocols || c.Stdin != nil && resp.StatusCode == http.StatusOK {
		if _, err := io.WriteString(conn, *c.Stdin); err != nil {
			return nil, nil, err
		}
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			return nil, nil, err
		}
		body = io.NopCloser(in)
	}
	return resp, func() ([]byte, error) {
		defer conn.Close()
		within := callTime
		if c.Within > 0 {
			within = c.Within
		}
		if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
			return nil, err
		}
		b, err := io.ReadAll(io.LimitReader(body, maxAnswer))
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
		case c.Within > 0:
			return append(b, goesOn...), nil
		default:
			return nil, fmt.Errorf("the answer does not end; so far: %d %q", resp.StatusCode, b)
		}
		return b, err
	}, nil
}

func (p *player) request(ctx context.Context, c Call) (*http.Request, error) {
	path, query, _ := strings.Cut(c.Path, "?")
	u := &url.URL{Scheme: "http", Host: "docker", Path: p.filled(path)}
	if c.Version != "" {
		u.Path = "/v" + c.Version + u.Path
	}
	values := url.Values{}
	for pair := range strings.SplitSeq(query, "&") {
		if key, value, _ := strings.Cut(pair, "="); key != "" {
			values.Add(key, p.filled(value))
		}
	}
	u.RawQuery = values.Encode()
	body := []byte(p.filled(c.Body))
	kind := "application/json"
	if c.Tar != nil {
		kind = "application/x-tar"
		var err error
		if body, err = pack(c.Tar); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, c.Method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", kind)
	}
	for name, value := range c.Header {
		req.Header.Set(name, p.filled(value))
	}
	if c.Stdin != nil {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "tcp")
	}
	return req, nil
}

func (p *player) filled(text string) string {
	if strings.Contains(text, "$NOW") {
		text = strings.ReplaceAll(text, "$NOW", now())
	}
	// The longest names first: $IMAGE_ID is not $IMAGE.
	best := ""
	for _, v := range p.vars {
		if strings.Contains(text, "$"+v.name) && len(v.name) > len(best) {
			best = v.name
		}
	}
	if best == "" {
		return text
	}
	for _, v := range p.vars {
		if v.name == best {
			text = strings.ReplaceAll(text, "$"+best, v.value)
		}
	}
	return p.filled(text)
}

// keep remembers what a call is told to, of which a later call may be told again.
func (p *player) keep(c Call, body []byte) error {
	for name, place := range c.Keep {
		value := at(body, place)
		if value == "" {
			return fmt.Errorf("%s is not in the answer: %s", place, body)
		}
		p.vars = append(p.vars, variable{name, value})
	}
	return nil
}

func now() string {
	t := time.Now()
	return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond())
}

// at returns what stands at a place of a JSON body, as .State.Running or .0.Id, as text; empty if nothing does.
func at(body []byte, place string) string {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return ""
	}
	for key := range strings.SplitSeq(strings.TrimPrefix(place, "."), ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			i := 0
			if _, err := fmt.Sscan(key, &i); err != nil || i >= len(in) {
				return ""
			}
			v = in[i]
		default:
			return ""
		}
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// entry is one of a tar that is sent.
type entry struct {
	Name, Content, Link string
	Mode                int64
	UID, GID            int
	Dir                 bool
}

func pack(entries []entry) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.Name, Mode: e.Mode, Uid: e.UID, Gid: e.GID, Size: int64(len(e.Content)), Typeflag: tar.TypeReg, ModTime: time.Unix(1577836800, 0)}
		switch {
		case e.Dir:
			h.Typeflag = tar.TypeDir
		case e.Link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, e.Content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

// clean removes all containers, networks, volumes, and images other than the one that is asked about.
func clean(ctx context.Context, c *client.Client) error {
	var errs []error
	containers, err := c.ContainerList(ctx, client.ContainerListOptions{All: true})
	errs = append(errs, err)
	for _, found := range containers.Items {
		_, err := c.ContainerRemove(ctx, found.ID, client.ContainerRemoveOptions{Force: true})
		errs = append(errs, err)
	}
	networks, err := c.NetworkList(ctx, client.NetworkListOptions{Filters: make(client.Filters).Add("type", "custom")})
	errs = append(errs, err)
	for _, found := range networks.Items {
		_, err := c.NetworkRemove(ctx, found.ID, client.NetworkRemoveOptions{})
		errs = append(errs, err)
	}
	volumes, err := c.VolumeList(ctx, client.VolumeListOptions{})
	errs = append(errs, err)
	for _, found := range volumes.Items {
		_, err := c.VolumeRemove(ctx, found.Name, client.VolumeRemoveOptions{})
		errs = append(errs, err)
	}
	images, err := c.ImageList(ctx, client.ImageListOptions{})
	errs = append(errs, err)
	for _, found := range images.Items {
		for _, tag := range found.RepoTags {
			if tag != ImageName {
				_, err := c.ImageRemove(ctx, tag, client.ImageRemoveOptions{})
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
