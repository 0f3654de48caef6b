"""A discrete-event model of the service, of lanes and of a fleet, in which scheduling policies are compared."""
