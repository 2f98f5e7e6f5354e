package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// owner is who owns a scope of the simulator's Azure, as who runs Terraform does. The simulator has no users: it is an
// application.
type owner struct {
	ObjectID, ClientID, Secret string

	sim   *simulator
	token string // for Azure Resource Manager; it is good for longer than a session lasts
}

// newOwner makes an owner of a scope, and signs it in.
func (s *simulator) newOwner(scope string) (*owner, error) {
	o := &owner{sim: s}
	if err := s.do(http.MethodPost, "/_sim/principals", `{"name":"owner"}`, o); err != nil {
		return nil, err
	}
	if err := s.assign(o.ObjectID, "Owner", scope); err != nil {
		return nil, err
	}
	resp, err := web.PostForm(s.url+"/"+s.env["AZURE_TENANT_ID"]+"/oauth2/v2.0/token", url.Values{"grant_type": {"client_credentials"},
		"client_id": {o.ClientID}, "client_secret": {o.Secret}, "scope": {"https://management.azure.com/.default"}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Token == "" {
		return nil, fmt.Errorf("the owner cannot sign in: %s", resp.Status)
	}
	o.token = answer.Token
	return o, nil
}

// assign gives a principal a role.
func (s *simulator) assign(principal, role, scope string) error {
	return s.post("/_sim/assignments", fmt.Sprintf(`{"principal":%q,"role":%q,"scope":%q}`, principal, role, scope))
}

// call asks Azure Resource Manager, again when it has too much to do. A nil body is none, and so is a nil out.
func (o *owner) call(method, path string, body, out any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Second) {
		req, err := http.NewRequest(method, o.sim.url+path, bytes.NewReader(content))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+o.token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := web.Do(req)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		switch {
		case err != nil:
			return err
		case resp.StatusCode == http.StatusTooManyRequests && time.Now().Before(deadline):
			continue
		case resp.StatusCode >= 300:
			return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
		case out == nil:
			return nil
		}
		return json.Unmarshal(text, out)
	}
}
