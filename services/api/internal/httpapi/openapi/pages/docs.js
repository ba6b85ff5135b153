// Opens the API's own document. No validator: it would send the document to a server on the internet.
SwaggerUIBundle({
	url: "openapi.json",
	dom_id: "#swagger-ui",
	deepLinking: true,
	docExpansion: "list",
	validatorUrl: null,
	oauth2RedirectUrl: new URL("docs/oauth2-redirect", document.baseURI).href,
});
