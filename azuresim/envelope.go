package azuresim

import (
	"strings"
	"time"
)

// envelope is what ARM has around the properties of a job or an app.
type envelope struct {
	ID         string            `json:"id,omitempty"`
	Name       string            `json:"name,omitempty"`
	Type       string            `json:"type,omitempty"`
	Location   string            `json:"location,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	SystemData *systemData       `json:"systemData,omitempty"`
	Identity   *jobIdentity      `json:"identity,omitempty"`
}

// check validates what does not depend on other resources.
func (b *envelope) check(name string, l limits) error {
	if err := checkName(name); err != nil {
		return err
	}
	if b.Location == "" {
		return badRequest("LocationRequired", "The location property is required for this definition.")
	}
	return checkTags(b.Tags, l)
}

// dropReadOnly drops what comes back from clients that change what they have read.
func (b *envelope) dropReadOnly() { b.ID, b.Name, b.Type, b.SystemData = "", "", "", nil }

func checkName(name string) error {
	if len(name) >= 2 && len(name) <= 32 && jobName.MatchString(name) {
		return nil
	}
	return badRequest("ContainerAppInvalidName", "Invalid ContainerApp name '%s'. A name must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character and cannot have '--'. The length must not be more than 32 characters.", name)
}

func checkTags(tags map[string]string, l limits) error {
	if len(tags) > l.tags {
		return badRequest("TooManyTags", "The resource has %d tags, which exceeds the maximum of %d.", len(tags), l.tags)
	}
	for k, v := range tags {
		switch {
		case k == "" || len(k) > l.tagName:
			return badRequest("InvalidTagNameLength", "The tag name '%.40s' is empty or longer than %d characters.", k, l.tagName)
		case strings.ContainsAny(k, tagForbidden):
			return badRequest("InvalidTagNameCharacters", "The tag names '%s' have reserved characters '<,>,%%,&,\\,?,/' or control characters.", k)
		case len(v) > l.tagValue:
			return badRequest("InvalidTagValueLength", "The value of tag '%s' is longer than %d characters.", k, l.tagValue)
		}
	}
	return nil
}

// systemData tells who made and changed a resource, and when.
type systemData struct {
	CreatedBy          string `json:"createdBy,omitempty"`
	CreatedByType      string `json:"createdByType,omitempty"`
	CreatedAt          string `json:"createdAt,omitempty"`
	LastModifiedBy     string `json:"lastModifiedBy,omitempty"`
	LastModifiedByType string `json:"lastModifiedByType,omitempty"`
	LastModifiedAt     string `json:"lastModifiedAt,omitempty"`
}

// put records that who makes the resource, or changes it.
func (d *systemData) put(who *Principal) {
	now := armTime(time.Now())
	if d.CreatedAt == "" {
		d.CreatedBy, d.CreatedByType, d.CreatedAt = who.ClientID, "Application", now
	}
	d.LastModifiedBy, d.LastModifiedByType, d.LastModifiedAt = who.ClientID, "Application", now
}
