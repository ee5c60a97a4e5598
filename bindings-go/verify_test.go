package chronotick_test

import (
	"encoding/json"
	"net/http"
	"testing"

	chronotick "github.com/minoots/minoots/bindings-go"
)

func TestSignatureVectors(t *testing.T) {
	var vectors struct {
		Jwks  json.RawMessage
		Cases []struct {
			Name, Call, Kind, Envelope, ID, Timestamp, Signature, Body string
			Valid                                                      bool
		}
	}
	readJSON(t, "../tests/vectors/signatures.json", &vectors)
	keys, err := chronotick.ParseKeys(vectors.Jwks)
	if err != nil {
		t.Fatal(err)
	}
	if len(vectors.Cases) < 10 {
		t.Fatalf("only %d vectors", len(vectors.Cases))
	}
	for _, c := range vectors.Cases {
		t.Run(c.Name, func(t *testing.T) {
			var err error
			if c.Call == "webhook" {
				headers := http.Header{}
				headers.Set("webhook-id", c.ID)
				headers.Set("webhook-timestamp", c.Timestamp)
				headers.Set("webhook-signature", c.Signature)
				err = keys.VerifyWebhook(headers, []byte(c.Body))
			} else {
				_, err = keys.VerifyEnvelope(chronotick.SignedKind(c.Kind), []byte(c.Envelope))
			}
			if (err == nil) != c.Valid {
				t.Fatalf("valid is %v, and the answer %v", c.Valid, err)
			}
		})
	}
}
