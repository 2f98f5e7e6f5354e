package engine_test

import (
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/sockerless/sockerless/engine"
	"github.com/sockerless/sockerless/frontends/docker/dockerapi"
)

func TestAdhoc(t *testing.T) {
	r := newRig(t, rigOptions{reverse: true, engine: engine.Options{Linger: time.Minute}})
	dir, _ := os.MkdirTemp("", "cli")
	defer os.RemoveAll(dir)
	sock := "unix://" + dir + "/d.sock"
	l, err := dockerapi.Listen(t.Context(), sock)
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler = dockerapi.New(r.b, dockerapi.Options{Version: "x", Logger: slog.Default()})
	go dockerapi.Serve(t.Context(), l, h, slog.Default())
	cmd := exec.Command("bash", "-x", os.Getenv("ADHOC"))
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+sock)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	t.Logf("%s\n%v", out, err)
}
