package redisstore

// RenewIntentsKey names the list in which the routers of an installation tell its schedulers that sandboxes are in use, where no other
// list is configured. It lies beside the records, so that a client of the store reaches it too.
func RenewIntentsKey(installation string) string {
	return newKeys(installation).shared() + "renew-intents"
}
