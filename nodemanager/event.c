/* What watchers are told. */
#include "nodemanager/state.h"

const char *nm_event_name(enum nm_event_kind kind)
{
	static const char *const names[NM_EVENTS] = {
		[NM_EVENT_NODE_UP] = "node.up",
		[NM_EVENT_NODE_DOWN] = "node.down",
		[NM_EVENT_TRANSPORT_UP] = "transport.up",
		[NM_EVENT_TRANSPORT_DOWN] = "transport.down",
		[NM_EVENT_TRANSPORT_SUSPECT] = "transport.suspect",
		[NM_EVENT_CONNECTION_UP] = "connection.up",
		[NM_EVENT_CONNECTION_DOWN] = "connection.down",
		[NM_EVENT_CONNECTION_MOVED] = "connection.moved",
		[NM_EVENT_APP_REGISTERED] = "app.registered",
		[NM_EVENT_APP_GONE] = "app.gone",
		[NM_EVENT_ADMISSION_REFUSED] = "admission.refused",
	};

	return (unsigned)kind < NM_EVENTS ? names[kind] : "?";
}

static void tell(struct nm *nm, const struct nm_event *event)
{
	nm->told[event->kind]++;
	if (nm->ops->event)
		nm->ops->event(nm->ctx, event);
}

void nm_event_node(struct nm *nm, enum nm_event_kind kind, const struct nm_node *node,
		   const char *text)
{
	tell(nm, &(struct nm_event){
			 .kind = kind,
			 .a = &node->id,
			 .a_name = node->name,
			 .addr = node->remote.family ? &node->remote : NULL,
			 .text = text,
		 });
}

void nm_event_transport(struct nm *nm, enum nm_event_kind kind, const struct nm_transport *t,
			const char *text)
{
	tell(nm, &(struct nm_event){
			 .kind = kind,
			 .transport = t->id,
			 .a = &t->end[0].node->id,
			 .b = &t->end[1].node->id,
			 .a_name = t->end[0].node->name,
			 .b_name = t->end[1].node->name,
			 .text = text,
		 });
}

void nm_event_conn(struct nm *nm, enum nm_event_kind kind, const struct nm_conn *c,
		   const char *text)
{
	const struct nm_node *far = c->local ? c->end[0].node : c->end[1].node;

	tell(nm, &(struct nm_event){
			 .kind = kind,
			 .connection = c->id,
			 .a = &c->end[0].node->id,
			 .b = &far->id,
			 .a_name = c->end[0].node->name,
			 .b_name = far->name,
			 .app = c->app,
			 .text = text,
		 });
}

void nm_event_app(struct nm *nm, enum nm_event_kind kind, const struct nm_app *app)
{
	tell(nm, &(struct nm_event){
			 .kind = kind,
			 .a = &app->node->id,
			 .a_name = app->node->name,
			 .app = app->name,
			 .type = app->type,
		 });
}

void nm_event_refused(struct nm *nm, const struct nm_session *s, const char *text)
{
	tell(nm, &(struct nm_event){
			 .kind = NM_EVENT_ADMISSION_REFUSED,
			 .a = &s->id,
			 .addr = &s->remote,
			 .text = text,
		 });
}
