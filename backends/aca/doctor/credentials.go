package doctor

import (
	"context"
	"path"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/golang-jwt/jwt/v5"

	"github.com/sockerless/sockerless/backends/aca"
)

// claims are what a token says of whose it is. They are the service's to verify, not ours.
type claims struct {
	jwt.RegisteredClaims
	ObjectID string `json:"oid"`
	AppID    string `json:"appid"`
	Kind     string `json:"idtyp"`
	Name     string `json:"upn"`
	Unique   string `json:"unique_name"`
	Managed  string `json:"xms_mirid"`
}

func checkCredentials(ctx context.Context, p *patient) Finding {
	service := p.cloud.Options().Cloud.Services[cloud.ResourceManager]
	token, err := p.cloud.Credential().GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{strings.TrimSuffix(service.Audience, "/") + "/.default"}})
	if err != nil {
		return fail("%v: sign in with az login, put the backend's identity on this machine (AZURE_CLIENT_ID names one of several), or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
			aca.Explain(err, "get a token for Azure Resource Manager"))
	}
	c, readable := readClaims(token.Token)
	if !readable || c.ObjectID == "" {
		p.who = "this identity"
		return ok("there is a token for Azure Resource Manager, which does not say whose it is")
	}
	p.who = "object id " + c.ObjectID
	switch name := c.Name + c.Unique; {
	case c.Managed != "":
		return ok("managed identity %s, object id %s, client id %s", path.Base(c.Managed), c.ObjectID, c.AppID)
	case c.Kind == "user" || name != "":
		if c.Name != "" {
			name = c.Name
		}
		return ok("user %s, object id %s", name, c.ObjectID)
	}
	return ok("application %s, object id %s", c.AppID, c.ObjectID)
}

func readClaims(token string) (c claims, ok bool) {
	_, _, err := jwt.NewParser().ParseUnverified(token, &c)
	return c, err == nil
}
